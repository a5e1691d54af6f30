// A knex migration that brings dbopt, an events table and a first handler.
//
// The server has shared_preload_libraries = 'dbopt'.  The role that runs the
// migrations is a superuser, as CREATE EXTENSION dbopt demands; for any other,
// here app, which may create tables and log in, a superuser runs this before:
//
//   CREATE EXTENSION dbopt CASCADE;
//   GRANT EXECUTE ON FUNCTION dbopt_create_events, dbopt_detach_events,
//     dbopt_register_handler, dbopt_unregister_handler TO app;

exports.up = async function up(knex) {
  await knex.raw('CREATE EXTENSION IF NOT EXISTS dbopt CASCADE');

  // A table of the application's, not of the extension's.  For one that is
  // there already: SELECT dbopt_attach_events('events')
  await knex.raw("SELECT dbopt_create_events('events')");

  await knex.raw(`
    CREATE TABLE user_names (
      user_id uuid PRIMARY KEY,
      name text NOT NULL
    )`);

  await knex.raw(`
    CREATE FUNCTION on_user_created(event events) RETURNS void
    LANGUAGE sql AS $$
      INSERT INTO user_names (user_id, name)
      VALUES (event.aggregate_id, event.data ->> 'name')
      ON CONFLICT (user_id) DO UPDATE SET name = EXCLUDED.name
    $$`);

  await knex.raw(
    "SELECT dbopt_register_handler(?, ?, 'on_user_created(events)', events => 'events')",
    ['user_names', 'USER.CREATED']
  );
};

exports.down = async function down(knex) {
  await knex.raw('SELECT dbopt_unregister_handler(?, discard => true)', ['user_names']);
  await knex.raw('DROP FUNCTION on_user_created(events)');
  await knex.raw('DROP TABLE user_names');

  // The events go with the table; leave these two lines out to keep them.
  await knex.raw("SELECT dbopt_detach_events('events')");
  await knex.raw('DROP TABLE events');
};
