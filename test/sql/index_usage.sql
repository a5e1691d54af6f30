-- Every shipped index is used by the query it is for, on tables of 100,000
-- rows; the covering ones without a look at the table.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS dbopt, pg_trgm CASCADE;
DROP SCHEMA IF EXISTS app CASCADE;
CREATE SCHEMA app;
SET search_path = app, public;
SELECT setseed(0.5);

CREATE TABLE organizations (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, domain text, status text NOT NULL,
	created_at timestamptz NOT NULL, updated_at timestamptz, deleted_at timestamptz, settings jsonb);
CREATE TABLE users (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text NOT NULL, first_name text, last_name text,
	status text NOT NULL, role text NOT NULL, last_login_at timestamptz, created_at timestamptz NOT NULL,
	deleted_at timestamptz, password_hash text);
CREATE TABLE user_organizations (
	user_id uuid NOT NULL, organization_id uuid NOT NULL, role text NOT NULL, status text NOT NULL,
	joined_at timestamptz NOT NULL, PRIMARY KEY (organization_id, user_id, joined_at));
CREATE TABLE events (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), event_type text NOT NULL, aggregate_type text NOT NULL,
	aggregate_id uuid NOT NULL, aggregate_version bigint NOT NULL, data jsonb NOT NULL, user_id uuid,
	organization_id uuid, correlation_id text, event_timestamp timestamptz NOT NULL, processed boolean NOT NULL);
CREATE TABLE api_keys (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, key_hash text NOT NULL, user_id uuid,
	organization_id uuid, status text NOT NULL, expires_at timestamptz, last_used_at timestamptz);

-- Names from syllables; few of many statuses; recent times are more frequent.
CREATE FUNCTION word(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT initcap((ARRAY['ba','ce','di','fo','gu','ha','je','ki','lo','mu','na','pe','qui','ro','su'])[1 + n % 15]
		|| (ARRAY['n','r','l','st','nd','m','rk','t'])[1 + n / 15 % 8]
		|| (ARRAY['a','en','is','o','ura','el','ix'])[1 + n / 120 % 7] || (ARRAY['','son','berg','ville','di'])[1 + n / 840 % 5])
$$;
CREATE FUNCTION recent() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
	SELECT timestamptz '2025-06-01' - random() * random() * interval '3 years'
$$;
INSERT INTO organizations (name, domain, status, created_at, deleted_at, settings)
SELECT word(i % 4200) || ' ' || word((i * 7 + i / 4200) % 4200) || (ARRAY[' Ltd', ' Inc', ' GmbH', ''])[1 + i % 4],
	CASE WHEN i % 3 > 0 THEN 'org' || i || '.example' END,
	(ARRAY['active', 'active', 'active', 'trial', 'suspended'])[1 + i % 5], recent(),
	CASE WHEN i % 10 = 0 THEN recent() END, '{"theme": "dark", "seats": 10}'
  FROM generate_series(1, 100000) i;
INSERT INTO users (email, first_name, last_name, status, role, last_login_at, created_at, deleted_at, password_hash)
SELECT 'User' || i || '@Example.com', word(i % 4200), word((i * 11 + i / 4200) % 4200),
	CASE WHEN i % 20 = 0 THEN 'invited' WHEN i % 15 = 0 THEN 'blocked' ELSE 'active' END,
	CASE WHEN i % 200 = 0 THEN 'admin' WHEN i % 30 = 0 THEN 'manager' ELSE 'member' END,
	CASE WHEN i % 6 > 0 THEN recent() END, recent(), CASE WHEN i % 12 = 0 THEN recent() END, md5(i::text)
  FROM generate_series(1, 100000) i;
INSERT INTO user_organizations
SELECT u.id, o.id, CASE WHEN i % 20 = 0 THEN 'owner' ELSE 'member' END,
	CASE WHEN i % 5 = 0 THEN 'left' ELSE 'active' END, recent()
  FROM (SELECT id, row_number() OVER () AS i FROM users) u
  JOIN (SELECT id, row_number() OVER () AS j FROM organizations LIMIT 2000) o ON j = 1 + i * i % 2000;
INSERT INTO events (event_type, aggregate_type, aggregate_id, aggregate_version, data, user_id, organization_id,
	correlation_id, event_timestamp, processed)
SELECT (ARRAY['USER', 'ORDER', 'INVOICE', 'ORGANIZATION'])[1 + i % 4] || (ARRAY['.CREATED', '.UPDATED', '.UPDATED', '.DELETED'])[1 + i / 4 % 4],
	(ARRAY['user', 'order', 'invoice', 'organization'])[1 + i % 4], md5((i % 8000)::text)::uuid, i / 8000,
	'{"changes": {"name": "new"}}', CASE WHEN i % 3 > 0 THEN md5((i % 5000)::text)::uuid END,
	CASE WHEN i % 4 > 0 THEN md5((i % 1000)::text)::uuid END, CASE WHEN i % 2 = 0 THEN md5((i / 6)::text) END,
	timestamptz '2025-01-01' + i * interval '1 minute', i < 99500
  FROM generate_series(1, 100000) i;
INSERT INTO api_keys (name, key_hash, user_id, organization_id, status, expires_at, last_used_at)
SELECT 'Key ' || i, md5(i::text), CASE WHEN i % 2 = 0 THEN md5((i % 20000)::text)::uuid END,
	CASE WHEN i % 2 = 1 THEN md5((i % 3000)::text)::uuid END, CASE WHEN i % 4 = 0 THEN 'revoked' ELSE 'active' END,
	CASE WHEN i % 3 = 0 THEN timestamptz '2025-01-01' + i * interval '10 minutes' END,
	CASE WHEN i % 5 > 0 THEN recent() END
  FROM generate_series(1, 100000) i;

SET dbopt.index_inline_pages = 1000000;
CREATE EXTENSION dbopt SCHEMA app CASCADE;
RESET dbopt.index_inline_pages;
SELECT status, count(*) FROM dbopt_index_status() GROUP BY status;
VACUUM ANALYZE organizations, users, user_organizations, events, api_keys;

-- The indexes in a query's plan.
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN (SELECT string_agg(DISTINCT (n ->> 'Index Name') ||
			CASE WHEN n ->> 'Node Type' = 'Index Only Scan' THEN ', index only' ELSE '' END, '; ')
		FROM jsonb_path_query(plan, '$.** ? (exists (@."Index Name"))') n);
END $$;

-- organizations
SELECT plan($$SELECT * FROM organizations WHERE name ILIKE '%berg quina%'$$);
SELECT plan($$SELECT name, similarity(name, 'Banana Ceren Ltd') FROM organizations WHERE name % 'Banana Ceren Ltd'$$);
SELECT plan($$SELECT * FROM organizations WHERE domain = 'org4711.example'$$);
SELECT plan($$SELECT id, name, domain, created_at FROM organizations
	WHERE status = 'trial' AND deleted_at IS NULL ORDER BY created_at DESC LIMIT 50$$);
SELECT plan($$SELECT count(*) FROM organizations WHERE status = 'suspended' AND created_at >= '2025-05-01' AND deleted_at IS NULL$$);

-- users
SELECT plan($$SELECT id, email, status FROM users WHERE lower(email) = lower('USER4711@example.com')$$);
SELECT plan($$SELECT * FROM users
	WHERE coalesce(first_name, '') || ' ' || coalesce(last_name, '') ILIKE '%berg quina%'$$);
SELECT plan($$SELECT * FROM users
	WHERE (coalesce(first_name, '') || ' ' || coalesce(last_name, '')) % 'Banana Ceren'$$);
SELECT plan($$SELECT * FROM users WHERE status = 'active' AND role = 'admin' AND deleted_at IS NULL$$);
SELECT plan($$SELECT * FROM users WHERE status = 'active' ORDER BY last_login_at DESC LIMIT 20$$);
SELECT plan($$SELECT * FROM users WHERE status = 'active' AND last_login_at > '2025-05-30'$$);

-- user_organizations
SELECT plan($$SELECT organization_id, role FROM user_organizations
	WHERE user_id = '00000000-0000-0000-0000-000000000001' AND status = 'active'$$);
SELECT plan(format($$SELECT user_id FROM user_organizations
	WHERE organization_id = %L AND role = 'owner' AND status = 'active'$$, (SELECT organization_id FROM user_organizations LIMIT 1)));

-- events
SELECT plan($$SELECT * FROM events WHERE aggregate_type = 'order' AND aggregate_id = md5('17')::uuid
	ORDER BY aggregate_version$$);
SELECT plan($$SELECT * FROM events WHERE event_type = 'ORDER.CREATED' ORDER BY event_timestamp DESC LIMIT 100$$);
SELECT plan($$SELECT * FROM events WHERE organization_id = md5('17')::uuid ORDER BY event_timestamp DESC LIMIT 50$$);
SELECT plan($$SELECT * FROM events WHERE user_id = md5('17')::uuid ORDER BY event_timestamp DESC LIMIT 50$$);
SELECT plan($$SELECT * FROM events WHERE correlation_id = md5('17') ORDER BY event_timestamp$$);
SELECT plan($$SELECT * FROM events WHERE processed = false ORDER BY event_timestamp LIMIT 100$$);
SELECT plan($$SELECT * FROM events WHERE NOT processed AND event_timestamp < '2025-03-01'$$);

-- api_keys
SELECT plan($$SELECT * FROM api_keys WHERE user_id = md5('18')::uuid AND status = 'active'$$);
SELECT plan($$SELECT * FROM api_keys WHERE organization_id = md5('17')::uuid AND status = 'active'$$);
SELECT plan($$SELECT * FROM api_keys WHERE expires_at < '2025-01-03'$$);
SELECT plan($$SELECT id, name, user_id, organization_id, last_used_at FROM api_keys
	WHERE status = 'active' ORDER BY last_used_at DESC LIMIT 20$$);

-- And the answers are right.
SELECT count(*) > 0 FROM organizations WHERE name ILIKE '%berg%';
SELECT count(*) FROM users WHERE lower(email) = lower('USER4711@example.com');

SET client_min_messages = warning;
DROP EXTENSION dbopt;
DROP SCHEMA app CASCADE;
