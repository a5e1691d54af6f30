/*
 * news_prepared.c
 *		The news of prepared transactions, when these end.
 *
 * Run by the backend that ends one.  COMMIT PREPARED and ROLLBACK PREPARED are
 * seen by the utility hook (dbopt.c).  A subscription with two_phase prepares and
 * ends transactions without any statement: its worker does both in transactions
 * of its own, which write nothing then, and looks as such a one commits whether
 * any of those that it has prepared has ended.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_subscription.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "state/news.h"
#include "state/prepared.h"

/*
 * A prepared transaction has been committed in this database.
 */
void
dbopt_news_publish_prepared(const char *gid)
{
	DbOptPrepared prepared;

	if (dbopt_shared == NULL)
		return;
	if (dbopt_prepared_take(dbopt_prepared_hash(gid), &prepared))
		dbopt_news_note_prepared(&prepared);
	else
		dbopt_news_note_unknown();
	dbopt_news_publish();
}

/*
 * A prepared transaction has been rolled back.
 */
void
dbopt_news_forget_prepared(const char *gid)
{
	DbOptPrepared prepared;

	if (dbopt_shared != NULL)
		(void) dbopt_prepared_take(dbopt_prepared_hash(gid), &prepared);
}

/*
 * Is this the worker of a subscription that may prepare transactions?
 */
bool
dbopt_news_is_replicating(void)
{
	return IsLogicalWorker() && MySubscription != NULL &&
		MySubscription->twophasestate == LOGICALREP_TWOPHASE_STATE_ENABLED;
}

/*
 * None that is known has ended: then one may have that was prepared before the
 * server started.
 */
static void
note_ended(void)
{
	DbOptPrepared prepared;
	bool		known = false;

	while (dbopt_prepared_take_ended(&prepared))
	{
		dbopt_news_note_prepared(&prepared);
		known = true;
	}
	if (!known)
		dbopt_news_note_unknown();
}

/*
 * A transaction of such a worker's ends; "noted": it has written something that
 * concerns us.  Every one that is prepared gets a place.
 */
void
dbopt_news_note_replicated(XactEvent event, bool noted)
{
	static const DbOptPrepared nothing = {0};

	if (event == XACT_EVENT_PRE_PREPARE)
		dbopt_news_note_prepared(&nothing);
	else if (event == XACT_EVENT_PRE_COMMIT && !noted &&
			 !TransactionIdIsValid(GetTopTransactionIdIfAny()))
		note_ended();
}
