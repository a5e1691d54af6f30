-- Ordered handlers: what a table must have for them, and what is forgotten.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS dbopt CASCADE;
CREATE SCHEMA ordered_test;
SET search_path = ordered_test, public;
SELECT dbopt_pause();
RESET client_min_messages;
CREATE FUNCTION handle(e jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';

-- The three columns, a version that is a number, and an index.
CREATE TABLE log (id bigint PRIMARY KEY, event_type text NOT NULL);
SELECT dbopt_attach_events('log');
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', ordered => true);
ALTER TABLE log ADD COLUMN aggregate_type varchar(30), ADD COLUMN aggregate_id uuid, ADD COLUMN aggregate_version text;
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', ordered => true);
ALTER TABLE log ALTER COLUMN aggregate_version TYPE float8 USING 1;
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', ordered => true);
CREATE DOMAIN version AS int CHECK (VALUE > 0);
ALTER TABLE log ALTER COLUMN aggregate_version TYPE version USING 1;
CREATE INDEX ON log (aggregate_type, aggregate_id);
CREATE INDEX ON log (aggregate_id, aggregate_version) WHERE aggregate_version > 1;
CREATE INDEX ON log (aggregate_version, aggregate_id);
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', ordered => true);
CREATE INDEX ON log (aggregate_type, aggregate_id, aggregate_version);
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', ordered => true, replace => true);
CREATE TABLE parted (id bigint, event_type text NOT NULL, aggregate_type text, aggregate_id text,
	aggregate_version numeric, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
ALTER TABLE parted ALTER COLUMN id SET NOT NULL;
SELECT dbopt_attach_events('parted', 'id');
SELECT dbopt_register_handler('ordered 2', '*', 'handle(jsonb)', events => 'parted', ordered => true);
SELECT dbopt_create_events('made');
SELECT dbopt_create_events('made_too', mark_processed => false);
SELECT dbopt_register_handler('ordered 3', '*', 'handle(jsonb)', events => 'made', ordered => true);
SELECT dbopt_register_handler('ordered 4', '*', 'handle(jsonb)', events => 'made_too', ordered => true);

-- What is held back for a handler goes with it, or with the order.
CREATE FUNCTION hold_back(handler text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.dbopt_retry_queue
		(handler_id, log_position, event_key, event_type, attempts, next_retry_at, first_failed_at, failed_at)
	SELECT handler_id, v, v, 'A', 0, CASE v WHEN 1 THEN now() ELSE 'infinity' END, now(), now()
	  FROM public.dbopt_handler, generate_series(1, 3) v WHERE name = handler;
	INSERT INTO public.dbopt_ordered (handler_id, log_position, event_key, aggregate_type, aggregate_id, version,
		aggregate_hash, version_order)
	SELECT handler_id, v, v, 'a', '1', v, 0, v FROM public.dbopt_handler, generate_series(1, 3) v WHERE name = handler;
$$;
SELECT hold_back('ordered');
SELECT event_id, attempts, next_retry_at = 'infinity' AS held_back, error_code, error_message
  FROM dbopt_pending_retries ORDER BY event_id;
SELECT dbopt_register_handler('ordered', 'A', 'handle(jsonb)', events => 'log', ordered => true, replace => true);
SELECT count(*), count(*) FILTER (WHERE next_retry_at = 'infinity') AS held_back FROM dbopt_retry_queue;
SELECT count(*) FROM dbopt_ordered;
SELECT dbopt_register_handler('ordered', '*', 'handle(jsonb)', events => 'log', replace => true);
SELECT count(*), count(*) FILTER (WHERE next_retry_at = 'infinity') AS held_back FROM dbopt_retry_queue;
SELECT count(*) FROM dbopt_ordered;
SELECT dbopt_unregister_handler('ordered', discard => true);
SELECT hold_back('ordered 4');
SELECT dbopt_unregister_handler('ordered 4');
SELECT dbopt_unregister_handler('ordered 4', discard => true);
SELECT count(*) FROM dbopt_ordered;
SELECT hold_back('ordered 2');
TRUNCATE parted;
SELECT count(*) FROM dbopt_ordered;

SET client_min_messages = warning;
DROP SCHEMA ordered_test CASCADE;
DROP EXTENSION dbopt CASCADE;
