-- name: find_usage
SELECT CASE WHEN :by_day THEN day END, CASE WHEN :by_owner THEN owner END COLLATE {bytewise},
       CASE WHEN :by_type THEN type END COLLATE {bytewise}, {counted_sums}
FROM {schema}.usage_by_day
WHERE day BETWEEN :first AND :last AND (CAST(:owner AS text) IS NULL OR owner = :owner)
  AND (CAST(:type AS text) IS NULL OR type = :type)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT :limit;
