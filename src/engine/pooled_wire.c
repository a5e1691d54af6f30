/*
 * pooled_wire.c
 *		What a pool session says to its client goes into the caller's queue.
 *
 * Run by pool sessions.  A message that has been begun must be finished, or
 * the queue is of no use to anybody: so it is sent with interrupts held, which
 * is short, since the caller does nothing but read.  A session that is told to
 * end does not wait for a caller that does not.
 *
 * The caller is woken for what it has to act on: a notice, the answer, or so
 * many rows that there may soon be no room for more.  It is not woken again when
 * the session lets go of the queue, unless it still waits for an answer.
 */
#include "postgres.h"

/* What libpq.h wants for it need not be installed, and is not used here. */
#undef ENABLE_GSS

#include "compat.h"
#include "engine/pooled.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"

static shm_mq_handle *queue = NULL; /* NULL: nobody listens any more */
static uint32 wait_event = 0;
static Size taken;				/* of the queue by all messages of this call */

/* What a message takes of the queue beside its data, at most. */
#define OVERHEAD		((Size) 32)

static void
wire_reset(void)
{
}

static int
wire_flush(void)
{
	return 0;
}

static bool
wire_is_pending(void)
{
	return false;
}

static shm_mq_result
send_all(shm_mq_iovec *parts, int count, bool wake)
{
	shm_mq_result result;

	HOLD_INTERRUPTS();
	while ((result = shm_mq_sendv(queue, parts, count, true, wake)) ==
		   SHM_MQ_WOULD_BLOCK && !ProcDiePending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 wait_event);
		ResetLatch(MyLatch);
	}
	RESUME_INTERRUPTS();
	return result;
}

static int
wire_send(char type, const char *data, size_t length)
{
	shm_mq_iovec parts[2] = {{&type, 1}, {data, length}};
	shm_mq_result result;

	if (queue == NULL)
		return EOF;
	taken += length + OVERHEAD;
	result = send_all(parts, 2, type != DBOPT_POOLED_ROWS);
	if (result != SHM_MQ_SUCCESS)
		shm_mq_detach(queue);
	if (result != SHM_MQ_SUCCESS || type == DBOPT_POOLED_DONE || type == 'E')
		queue = NULL;
	return result == SHM_MQ_SUCCESS ? 0 : EOF;
}

static void
wire_send_noblock(char type, const char *data, size_t length)
{
	(void) wire_send(type, data, length);
}

static const PQcommMethods methods = {
	.comm_reset = wire_reset,
	.flush = wire_flush,
	.flush_if_writable = wire_flush,
	.is_send_pending = wire_is_pending,
	.putmessage = wire_send,
	.putmessage_noblock = wire_send_noblock
};

static void
close_wire(dsm_segment *segment, Datum arg)
{
	if (queue != NULL)
		shm_mq_detach(queue);
	queue = NULL;
	whereToSendOutput = DestNone;
}

void
dbopt_pooled_wire_open(const DbOptPooledSegment *segment)
{
	if (wait_event == 0)
		wait_event = DBOPT_WAIT_EVENT("DboptPoolSend");
	if (shm_mq_get_sender(segment->queue) == NULL)
		shm_mq_set_sender(segment->queue, MyProc);
	queue = shm_mq_attach(segment->queue, NULL, NULL);
	taken = 0;
	on_dsm_detach(segment->segment, close_wire, (Datum) 0);
	PqCommMethods = &methods;
	FrontendProtocol = PG_PROTOCOL_LATEST;
	whereToSendOutput = DestRemote;
}

bool
dbopt_pooled_wire_has_room(Size length)
{
	return taken + length + 2 * OVERHEAD + shm_mq_minimum_size <
		DBOPT_POOLED_QUEUE_SIZE;
}

bool
dbopt_pooled_wire_send(char type, const char *data, Size length)
{
	return wire_send(type, data, length) == 0;
}
