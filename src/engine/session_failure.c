/*
 * session_failure.c
 *		Why a session could not be created, for who waits for it.
 *
 * Run by pool sessions until they can be given jobs.  An error ends the process
 * then, and is caught on its way to the server log; with log_min_messages above
 * FATAL nothing is on that way, and the reason stays unknown.
 */
#include "postgres.h"

#include "engine/session_failure.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"

static emit_log_hook_type previous_hook = NULL;
static bool watching = false;
static bool quiet = false;
static char error_code[6];		/* "": nothing has failed */
static char error[DBOPT_ERROR_LENGTH];

static void
keep_error(ErrorData *edata)
{
	if (watching && edata->elevel >= ERROR && edata->message != NULL)
	{
		int			length = pg_mbcliplen(edata->message,
										  strlen(edata->message),
										  sizeof(error) - 1);

		strlcpy(error_code, unpack_sql_state(edata->sqlerrcode),
				sizeof(error_code));
		memcpy(error, edata->message, length);
		error[length] = '\0';
		edata->output_to_server = !quiet;
	}
	if (previous_hook != NULL)
		previous_hook(edata);
}

/* The postmaster has a line for each worker that ends with another code. */
static void
end_quietly(int code, Datum arg)
{
	if (watching && code == 1)
		exit(0);
}

void
dbopt_session_failure_watch(bool to_be_quiet)
{
	quiet = to_be_quiet;
	if (quiet)
		on_proc_exit(end_quietly, (Datum) 0);
	previous_hook = emit_log_hook;
	emit_log_hook = keep_error;
	watching = true;
}

/* The hook stays: somebody else's may lead to it by now. */
void
dbopt_session_failure_unwatch(void)
{
	watching = false;
	error_code[0] = error[0] = '\0';
}

void
dbopt_session_failure_tell(DbOptSession *session)
{
	strlcpy(session->error_code, error_code, sizeof(session->error_code));
	strlcpy(session->error, error, sizeof(session->error));
}
