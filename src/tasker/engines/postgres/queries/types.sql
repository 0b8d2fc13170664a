-- name: publish_types
INSERT INTO {schema}.published_type (name, published_at, seen_at, body)
SELECT name, now(), now(), body FROM unnest($1::text[], $2::bytea[]) AS given (name, body) ORDER BY name
ON CONFLICT (name) DO UPDATE SET published_at = now(), seen_at = now(), body = excluded.body;

-- name: forget_types
DELETE FROM {schema}.published_type WHERE seen_at < now() - $1::interval;

-- name: published_types
SELECT seen_at, body FROM {schema}.published_type WHERE seen_at >= now() - $1::interval ORDER BY name;
