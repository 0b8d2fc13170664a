-- What a webhook's messages are (model/webhooks.py). Processes of an older version go on with the default.
ALTER TABLE {schema}.webhook ADD COLUMN format text NOT NULL DEFAULT 'standard';
