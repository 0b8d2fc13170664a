-- What a webhook's messages are (model/webhooks.py).
ALTER TABLE webhook ADD COLUMN format TEXT NOT NULL DEFAULT 'standard';
