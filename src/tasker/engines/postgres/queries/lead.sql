-- name: hold_lead
-- A time in the future was written before the clock was set back: it says nothing, so the lead is free.
UPDATE {schema}.lead SET holder = $1, held_at = now()
WHERE holder = $1 OR held_at NOT BETWEEN now() - $2::interval AND now() + $2::interval RETURNING true;

-- name: give_up_lead
UPDATE {schema}.lead SET holder = '', held_at = to_timestamp(0) WHERE holder = $1;
