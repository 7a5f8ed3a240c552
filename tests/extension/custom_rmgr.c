/*
 * An extension with a resource manager of its own: what it logs, nobody can replay who does not have it.
 *
 * Its functions change the four bytes eight before the end of a block: in a table of one integer, the first row's value.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"
#include "access/xlogutils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"

PG_MODULE_MAGIC;

#define CHANGE	0x00
#define NOTE	0x10

static void
put(Page page, int32 value)
{
	memcpy((char *) page + BLCKSZ - 8, &value, sizeof(value));
}

static void
redo(XLogReaderState *record)
{
	Buffer		buffer;

	if ((XLogRecGetInfo(record) & ~XLR_INFO_MASK) != CHANGE)
		return;
	if (XLogReadBufferForRedo(record, 0, &buffer) == BLK_NEEDS_REDO)
	{
		put(BufferGetPage(buffer), *(int32 *) XLogRecGetData(record));
		PageSetLSN(BufferGetPage(buffer), record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

static void
desc(StringInfo text, XLogReaderState *record)
{
	appendStringInfo(text, "%u bytes", XLogRecGetDataLen(record));
}

static const char *
identify(uint8 info)
{
	return (info & ~XLR_INFO_MASK) == CHANGE ? "CHANGE" : "NOTE";
}

static RmgrData manager = {
	.rm_name = "custom_rmgr",
	.rm_redo = redo,
	.rm_desc = desc,
	.rm_identify = identify
};

void
_PG_init(void)
{
	RegisterCustomRmgr(RM_EXPERIMENTAL_ID, &manager);
}

/* change(table regclass, block int4, value int4, image bool): logs a record of ours that refers to the block. */
PG_FUNCTION_INFO_V1(change);
Datum
change(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessExclusiveLock);
	Buffer		buffer = ReadBuffer(rel, PG_GETARG_INT32(1));
	int32		value = PG_GETARG_INT32(2);
	int			flags = REGBUF_STANDARD | (PG_GETARG_BOOL(3) ? REGBUF_FORCE_IMAGE : 0);
	XLogRecPtr	end;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	put(BufferGetPage(buffer), value);
	MarkBufferDirty(buffer);
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, flags);
	XLogRegisterData((char *) &value, sizeof(value));
	end = XLogInsert(RM_EXPERIMENTAL_ID, CHANGE);
	PageSetLSN(BufferGetPage(buffer), end);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	XLogFlush(end);
	PG_RETURN_LSN(end);
}

/* note(): logs a record of ours that refers to no block. */
PG_FUNCTION_INFO_V1(note);
Datum
note(PG_FUNCTION_ARGS)
{
	int32		value = 0;
	XLogRecPtr	end;

	XLogBeginInsert();
	XLogRegisterData((char *) &value, sizeof(value));
	end = XLogInsert(RM_EXPERIMENTAL_ID, NOTE);
	XLogFlush(end);
	PG_RETURN_LSN(end);
}

/* image(table regclass, block int4): logs the block as it is, as Postgres itself does. */
PG_FUNCTION_INFO_V1(image);
Datum
image(PG_FUNCTION_ARGS)
{
	Relation	rel = relation_open(PG_GETARG_OID(0), AccessExclusiveLock);
	Buffer		buffer = ReadBuffer(rel, PG_GETARG_INT32(1));
	XLogRecPtr	end;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	end = log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);
	XLogFlush(end);
	PG_RETURN_LSN(end);
}
