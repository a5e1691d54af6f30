/*
 * crew_roles.c
 *		The roles that a scheduler starts sessions for.
 *
 * Run by the scheduler alone, in its own memory.  A role whose session could
 * not be started is put off for a time that grows with each failure.
 */
#include "postgres.h"

#include "engine/crew.h"
#include "policy/backoff.h"
#include "state/log_line.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

/* After a failure of a role that nobody has wanted a session of since. */
#define FORGET_US		(10 * SECS_PER_MINUTE * USECS_PER_SEC)

static const DbOptBackoff start_backoff = {
	.base_delay = 1000000,
	.max_delay = 60000000,
	.multiplier = 2,
	.jitter = DBOPT_JITTER_NONE
};

static HTAB *roles;
static HASH_SEQ_STATUS role_scan;

void
dbopt_crew_roles_init(void)
{
	HASHCTL		control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(DbOptCrewRole)
	};

	roles = hash_create("dbopt roles", 16, &control, HASH_ELEM | HASH_BLOBS);
}

DbOptCrewRole *
dbopt_crew_role(Oid role)
{
	DbOptCrewRole *entry;
	bool		found;

	entry = hash_search(roles, &role, HASH_ENTER, &found);
	if (!found)
	{
		memset(entry, 0, sizeof(*entry));
		entry->role = role;
	}
	return entry;
}

/*
 * All roles in turn; NULL after the last.  To be called until it gives NULL.
 */
DbOptCrewRole *
dbopt_crew_next_role(bool first)
{
	if (first)
		hash_seq_init(&role_scan, roles);
	return hash_seq_search(&role_scan);
}

/*
 * Has it come for a call or a build only, and is nothing to be remembered of
 * it?  There may be any number of roles that come and go.
 */
static bool
is_over(const DbOptCrewRole *role, TimestampTz now)
{
	return !role->needed && role->alive == 0 && role->starting == 0 &&
		(role->failures == 0 || role->not_before + FORGET_US < now);
}

void
dbopt_crew_roles_clear(TimestampTz now)
{
	DbOptCrewRole *role;

	for (role = dbopt_crew_next_role(true); role != NULL;
		 role = dbopt_crew_next_role(false))
	{
		if (is_over(role, now))
		{
			(void) hash_search(roles, &role->role, HASH_REMOVE, NULL);
			continue;
		}
		role->alive = 0;
		role->starting = 0;
		role->claimed = 0;
		role->waiting = 0;
		role->offered = 0;
		role->calls = 0;
		role->calls_offered = 0;
	}
}

/*
 * Keeps why the session could not connect.
 */
static void
note_error(DbOptCrewRole *role, const DbOptMember *member)
{
	DbOptSession *session = dbopt_session_slot(member->target.slot);

	role->error_code[0] = role->error[0] = '\0';
	LWLockAcquire(dbopt_shared->lock, LW_SHARED);
	if (session->generation == member->target.generation)
	{
		strlcpy(role->error_code, session->error_code,
				sizeof(role->error_code));
		strlcpy(role->error, session->error, sizeof(role->error));
	}
	LWLockRelease(dbopt_shared->lock);
	if (member->overdue)		/* it names only what has ended it */
	{
		strlcpy(role->error_code, "57014", sizeof(role->error_code));
		strlcpy(role->error, "it was not ready within dbopt.pool_create_timeout",
				sizeof(role->error));
	}
}

/*
 * The log has a line the first time, and when the reason is another one, which
 * the session has not told then.
 */
static void
log_failure(const DbOptCrewRole *role, const char *told, TimestampTz now)
{
	const char *reason = "";

	if (role->failures > 1 && strcmp(told, role->error_code) == 0)
		return;
	if (role->failures > 1 && role->error[0] != '\0')
		reason = psprintf(": %s", dbopt_log_error_text(role->error_code,
													   role->error));
	dbopt_crew_log(psprintf("could not start a dbopt session for role %u, which is tried again%s",
							role->role, reason),
				   role->role, role->error_code, role->failures,
				   role->not_before - now);
}

void
dbopt_crew_put_off(const DbOptMember *member, TimestampTz now)
{
	DbOptCrewRole *role = dbopt_crew_role(member->role);
	char		told[sizeof(role->error_code)];

	strlcpy(told, role->error_code, sizeof(told));
	note_error(role, member);
	role->failures++;
	role->not_before = now + dbopt_backoff_base(&start_backoff,
												role->failures);
	log_failure(role, told, now);
}
