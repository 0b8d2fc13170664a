-- name: publish_types
INSERT INTO {schema}.published_type (name, published_at, seen_at, body)
SELECT name, now(), now(), body FROM unnest($1::text[], $2::bytea[]) AS given (name, body) ORDER BY name
ON CONFLICT (name) DO UPDATE SET published_at = now(), seen_at = now(), body = excluded.body;

-- name: see_types
-- Once a minute, by the first worker; rows that another worker has locked are being updated.
UPDATE {schema}.published_type SET seen_at = now() WHERE name IN (
    SELECT name FROM {schema}.published_type WHERE name = ANY($1::text[]) AND seen_at < now() - interval '1 minute'
    ORDER BY name FOR UPDATE SKIP LOCKED);

-- name: forget_types
DELETE FROM {schema}.published_type WHERE seen_at < now() - $1::interval;

-- name: published_types
SELECT seen_at, body FROM {schema}.published_type WHERE seen_at >= now() - $1::interval ORDER BY name;
