/*
 * news.h
 *		From a committing writer to the scheduler: what is new.
 *
 * A backend notes what its transaction wrote in its own memory; the last step
 * of its commit, when the transaction is visible to everybody, publishes the
 * notes in shared memory and sets the scheduler's latch once.  A rollback
 * costs nothing.  Without a preloaded library all of this does nothing.
 */
#ifndef DBOPT_NEWS_H
#define DBOPT_NEWS_H

#include "access/xact.h"
#include "state/shmem.h"

extern void dbopt_news_install(void);
extern uint64 dbopt_news_hash(int32 source_id, const char *type, int length);
extern void dbopt_news_note(int32 source_id, const char *type, int length);
extern void dbopt_news_note_many(void);
extern void dbopt_news_note_config(void);
extern void dbopt_news_note_launcher(void);
extern void dbopt_news_note_database(Oid dboid);
extern void dbopt_news_note_objects(void);
extern void dbopt_news_note_tables(void);
extern void dbopt_news_note_roles(void);
extern void dbopt_news_note_settings(void);

/*
 * Has the present transaction written events, or changed handlers or sources?
 * Also true of what a savepoint has undone.
 */
extern bool dbopt_news_noted(void);

extern void dbopt_news_note_prepare(const char *gid);
extern void dbopt_news_note_prepared(const DbOptPrepared *prepared);
extern void dbopt_news_note_unknown(void);
extern void dbopt_news_publish(void);
extern void dbopt_news_publish_prepared(const char *gid);
extern void dbopt_news_forget_prepared(const char *gid);
extern bool dbopt_news_is_replicating(void);
extern void dbopt_news_note_replicated(XactEvent event, bool noted);
extern void dbopt_news_unwant(DbOptDatabase *database, uint64 type);
extern void dbopt_news_want_all(DbOptDatabase *database);
extern bool dbopt_news_take(DbOptDatabase *database, DbOptNews *news);
extern void dbopt_news_put_config(DbOptDatabase *database);
extern void dbopt_news_put_orphan(Oid dboid);
extern bool dbopt_launcher_news_take(DbOptLauncherNews *news);
extern void dbopt_launcher_news_put(Oid dboid);
extern void dbopt_scheduler_wake(Oid dboid);
extern void dbopt_launcher_wake(void);

#endif							/* DBOPT_NEWS_H */
