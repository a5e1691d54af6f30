/*
 * dbopt_test.c
 *		Handlers in C, good and bad ones, for tests in test/t.
 *
 * Run by pool sessions.  What a handler does with an event stands in the event:
 * its column "act" is the name of one of the functions in "acts", and its
 * column "arg" is for that function.  When that returns, the handler writes
 * down by SPI that the event is done.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(handle_row);
PG_FUNCTION_INFO_V1(handle_array);
PG_FUNCTION_INFO_V1(handle_jsonb);

/* An event, as far as the handlers know it. */
typedef struct Event
{
	int32		id;
	const char *act;
	const char *arg;
} Event;

typedef struct Act
{
	const char *name;
	void		(*function) (const char *arg);
} Act;

/* ---- what can be done with an event -------------------------------------- */

static void
succeed(const char *arg)
{
}

/* Raises the SQLSTATE given. */
static void
fail(const char *arg)
{
	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(arg[0], arg[1], arg[2], arg[3], arg[4])),
			 errmsg("failed in C"),
			 errdetail("In detail."),
			 errhint("With a hint.")));
}

/* Raises a message that is no valid text, where "arg" has a tilde. */
static void
fail_with_bytes(const char *arg)
{
	char	   *message = pstrdup(arg);

	for (char *c = message; *c != '\0'; c++)
		if (*c == '~')
			*c = '\xf0';
	ereport(ERROR, (errmsg_internal("%s", message)));
}

static char *
large_text(char filler)
{
	Size		size = 10 * 1024 * 1024;
	char	   *letters = palloc(size);

	memset(letters, filler, size - 1);
	letters[size - 1] = '\0';
	return letters;
}

/* Raises an error with texts of 10 MB each. */
static void
fail_at_length(const char *arg)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg_internal("%s", large_text('m')),
			 errdetail_internal("%s", large_text('d')),
			 errhint("%s", large_text('h'))));
}

/* Computes for so many milliseconds. */
static void
compute(const char *arg, bool checks)
{
	instr_time	start;
	instr_time	now;

	INSTR_TIME_SET_CURRENT(start);
	do
	{
		if (checks)
			CHECK_FOR_INTERRUPTS();
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
	} while (INSTR_TIME_GET_MILLISEC(now) < atoi(arg));
}

static void
compute_well(const char *arg)
{
	compute(arg, true);
}

static void
compute_deaf(const char *arg)
{
	compute(arg, false);
}

/*
 * Computes until there is a file of this name, having made one beside it, and
 * no longer than that one is there.
 */
static void
compute_until(const char *arg)
{
	char	   *begun = psprintf("%s.begun", arg);
	FILE	   *file = AllocateFile(begun, "w");

	if (file == NULL)
		elog(ERROR, "could not write file \"%s\": %m", begun);
	FreeFile(file);
	while (access(begun, F_OK) == 0 && access(arg, F_OK) != 0)
		compute_deaf("10");
}

static const char *stay_until = NULL;	/* NULL: do not stay */

/* What the transaction has locked is free for others by now. */
static void
stay_committed(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
			   void *arg)
{
	const char *file = stay_until;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_commit ||
		!is_top_level || file == NULL)
		return;
	stay_until = NULL;
	compute_until(file);
}

/* Has the transaction's commit end only as compute_until() does. */
static void
commit_until(const char *arg)
{
	static bool registered = false;

	if (!registered)
		RegisterResourceReleaseCallback(stay_committed, NULL);
	registered = true;
	stay_until = MemoryContextStrdup(TopMemoryContext, arg);
}

static void
crash(const char *arg)
{
	raise(SIGSEGV);
}

static void
leave_fatally(const char *arg)
{
	ereport(FATAL, (errmsg("the session ends in its handler")));
}

/* Ends the process with this code. */
static void
leave_silently(const char *arg)
{
	exit(atoi(arg));
}

/* Calls itself until the stack is full. */
static void
recurse(const char *arg)
{
	volatile char frame[1024];

	frame[0] = *arg;
	check_stack_depth();
	if (frame[0] == *arg)
		recurse(arg);
	frame[1] = frame[0];
}

/* Takes so many bytes and leaves them. */
static void
allocate(const char *arg)
{
	char	   *bytes = palloc(strtoul(arg, NULL, 10));

	bytes[0] = *arg;
}

/* Leaves the memory context of somebody else. */
static void
stay_elsewhere(const char *arg)
{
	MemoryContextSwitchTo(TopMemoryContext);
}

static void
leave_spi_open(const char *arg)
{
	SPI_connect();
}

static void
leave_snapshot(const char *arg)
{
	PushActiveSnapshot(GetLatestSnapshot());
}

/* Leaves so many subtransactions open. */
static void
leave_subtransactions(const char *arg)
{
	for (int i = 0; i < atoi(arg); i++)
		BeginInternalSubTransaction(NULL);
}

static void
fail_in_subtransactions(const char *arg)
{
	leave_subtransactions(arg);
	fail("55P03");
}

static void
commit(const char *arg)
{
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	SPI_finish();
}

static int	commits_to_go = 0;	/* until one fails; 0: none does */
static char commit_code[6];

static void
fail_at_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && commits_to_go > 0 &&
		--commits_to_go == 0)
		fail(commit_code);
}

/*
 * Has the session's so many-th commit fail, counting this transaction's, with
 * AB123 or the SQLSTATE that is given, too.
 */
static void
spoil_commit(const char *arg)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(fail_at_commit, NULL);
	registered = true;
	commits_to_go = atoi(arg);
	arg = strchr(arg, ' ');
	strlcpy(commit_code, arg == NULL ? "AB123" : arg + 1, sizeof(commit_code));
}

static bool starved = false;

static void
need_memory(void)
{
	if (starved)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("nothing is left")));
}

static void
need_memory_to_commit(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT)
		need_memory();
}

static void
need_memory_to_begin(SubXactEvent event, SubTransactionId id,
					 SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_START_SUB)
		need_memory();
}

/*
 * The session behaves as without memory, once its handler has returned: it can
 * begin no subtransaction, and commit nothing.
 */
static void
starve(const char *arg)
{
	starved = true;
	RegisterXactCallback(need_memory_to_commit, NULL);
	RegisterSubXactCallback(need_memory_to_begin, NULL);
}

/* Crashes the server when there is no file of this name yet, which it makes. */
static void
crash_then_starve(const char *arg)
{
	FILE	   *file;

	if (access(arg, F_OK) != 0)
	{
		file = AllocateFile(arg, "w");
		if (file == NULL)
			elog(ERROR, "could not write file \"%s\": %m", arg);
		FreeFile(file);
		crash(arg);
	}
	starve(arg);
}

static void
measure(const char *arg)
{
	SPI_connect();
	SPI_execute("INSERT INTO memory"
				" SELECT sum(total_bytes) FROM pg_backend_memory_contexts",
				false, 0);
	SPI_finish();
}

static const Act acts[] = {
	{"succeed", succeed},
	{"fail", fail},
	{"fail_with_bytes", fail_with_bytes},
	{"fail_at_length", fail_at_length},
	{"compute_well", compute_well},
	{"compute_deaf", compute_deaf},
	{"compute_until", compute_until},
	{"commit_until", commit_until},
	{"crash", crash},
	{"leave_fatally", leave_fatally},
	{"leave_silently", leave_silently},
	{"recurse", recurse},
	{"allocate", allocate},
	{"stay_elsewhere", stay_elsewhere},
	{"leave_spi_open", leave_spi_open},
	{"leave_snapshot", leave_snapshot},
	{"leave_subtransactions", leave_subtransactions},
	{"fail_in_subtransactions", fail_in_subtransactions},
	{"commit", commit},
	{"spoil_commit", spoil_commit},
	{"starve", starve},
	{"crash_then_starve", crash_then_starve},
	{"measure", measure}
};

/* ---- handlers ------------------------------------------------------------ */

static void
write_down(int32 id)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};

	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO done VALUES ($1)", 1, types,
							  values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write down what is done");
	SPI_finish();
}

static void
handle(const Event *event)
{
	for (int i = 0; i < lengthof(acts); i++)
		if (strcmp(acts[i].name, event->act) == 0)
		{
			write_down(event->id);
			acts[i].function(event->arg);
			return;
		}
	elog(ERROR, "nobody knows how to \"%s\"", event->act);
}

static Datum
attribute(HeapTupleHeader row, const char *name)
{
	bool		isnull;
	Datum		value = GetAttributeByName(row, name, &isnull);

	if (isnull)
		elog(ERROR, "column \"%s\" is null", name);
	return value;
}

static void
handle_tuple(HeapTupleHeader row)
{
	Event		event;

	event.id = DatumGetInt32(attribute(row, "id"));
	event.act = TextDatumGetCString(attribute(row, "act"));
	event.arg = TextDatumGetCString(attribute(row, "arg"));
	handle(&event);
}

/* Returns NULL, which is a result as any other. */
Datum
handle_row(PG_FUNCTION_ARGS)
{
	handle_tuple(PG_GETARG_HEAPTUPLEHEADER(0));
	PG_RETURN_NULL();
}

Datum
handle_array(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Datum	   *rows;
	int			count;
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align,
					  &rows, NULL, &count);
	for (int i = 0; i < count; i++)
		handle_tuple(DatumGetHeapTupleHeader(rows[i]));
	PG_RETURN_INT32(count);
}

static char *
field(Jsonb *json, char *name)
{
	JsonbValue	found;

	if (getKeyJsonValueFromContainer(&json->root, name, strlen(name),
									 &found) == NULL)
		elog(ERROR, "there is no \"%s\"", name);
	if (found.type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(found.val.numeric)));
	return pnstrdup(found.val.string.val, found.val.string.len);
}

Datum
handle_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb	   *json = PG_GETARG_JSONB_P(0);
	Event		event;

	event.id = atoi(field(json, "id"));
	event.act = field(json, "act");
	event.arg = field(json, "arg");
	handle(&event);
	PG_RETURN_VOID();
}
