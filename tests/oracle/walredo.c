/*
 * walredo: turns a stock "postgres --single" into a process that applies one WAL record to one page.
 *
 * Loaded by shared_preload_libraries. Its shmem_startup_hook runs when shared memory is ready and before anything else
 * is: there is no recovery, no catalog, no WAL. From there it answers requests on stdin and never returns:
 *
 *	request:	fork 1 | block 4 | record start 8 | record end 8 | record length 4 | page 8192 | record
 *	answer:		page 8192
 *
 * The record is replayed by Postgres's own rm_redo, into shared buffers of a scratch relation that all of the record's
 * blocks are renamed to. Block numbers stay, because redo stores them in pages. Every block but the one asked for is
 * either rebuilt by the record itself, or a dummy whose LSN says that it has the record already.
 *
 * A record that Postgres refuses ends the process, with Postgres's message on stderr. 15 to 18.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
typedef RelFileLocator Locator;
#define BLOCK_LOCATOR(block) ((block)->rlocator)
#define DROP_BUFFERS DropRelationBuffers
#else
typedef RelFileNode Locator;
#define BLOCK_LOCATOR(block) ((block)->rnode)
#define DROP_BUFFERS DropRelFileNodeBuffers
#endif

#if PG_VERSION_NUM >= 170000
#define NO_BACKEND INVALID_PROC_NUMBER
#else
#define NO_BACKEND InvalidBackendId
#endif

PG_MODULE_MAGIC;

/* Heap blocks whose bits one page of a visibility map holds. */
#define HEAP_BLOCKS_PER_MAP_PAGE ((BLCKSZ - MAXALIGN(SizeOfPageHeaderData)) * 4)
/* Longest record that changes pages: 33 images and their data. */
#define MAX_RECORD (1 << 20)

typedef struct Request
{
	uint8		fork;
	uint32		block;
	uint64		start;
	uint64		end;
	uint32		length;
} Request;

void		_PG_init(void);

static shmem_startup_hook_type previous_hook;
static const Locator scratch = {1663, 1, 99999};

/* Reads exactly size bytes; false at the end of the input. */
static bool
receive(void *into, size_t size)
{
	char	   *at = into;

	while (size > 0)
	{
		ssize_t		got = read(STDIN_FILENO, at, size);

		if (got <= 0)
			return false;
		at += got;
		size -= got;
	}
	return true;
}

static void
answer(const char *from, size_t size)
{
	while (size > 0)
	{
		ssize_t		put = write(STDOUT_FILENO, from, size);

		if (put <= 0)
			_exit(3);
		from += put;
		size -= put;
	}
}

static bool
receive_request(Request *request)
{
	return receive(&request->fork, 1) && receive(&request->block, 4) && receive(&request->start, 8) &&
		receive(&request->end, 8) && receive(&request->length, 4);
}

/*
 * Forgets all pages. The cached sizes make redo take every block for existing, so that it never extends a file; they
 * are also why dropping scans the whole of the few buffers instead of looking blocks up.
 */
static void
forget_pages(void)
{
	SMgrRelation relation = smgropen(scratch, NO_BACKEND);
	ForkNumber	forks[3] = {MAIN_FORKNUM, FSM_FORKNUM, VISIBILITYMAP_FORKNUM};
	BlockNumber first[3] = {0, 0, 0};

	for (int i = 0; i < 3; i++)
		relation->smgr_cached_nblocks[forks[i]] = MaxBlockNumber;
	DROP_BUFFERS(relation, forks, 3, first);
	/* The free space map is really written, as redo wants; nobody looks at it. */
	relation->smgr_cached_nblocks[FSM_FORKNUM] = InvalidBlockNumber;
}

/* Puts a page into a buffer; the relation counts as not logged, so that no eviction waits for WAL. */
static void
put_page(ForkNumber fork, BlockNumber block, const char *content)
{
	Buffer		buffer = ReadBufferWithoutRelcache(scratch, fork, block, RBM_ZERO_AND_LOCK, NULL, false);
	Page		page = BufferGetPage(buffer);

	if (content != NULL)
		memcpy(page, content, BLCKSZ);
	else
	{
		/* Not a new page, and of an LSN that no record has: redo finds nothing to do. */
		PageInit(page, BLCKSZ, 0);
		PageSetLSN(page, PG_UINT64_MAX);
	}
	UnlockReleaseBuffer(buffer);
}

/* Renames the record's blocks, and gives dummies to those that are not asked for and need to be read. */
static void
prepare_blocks(DecodedXLogRecord *record, const Request *request)
{
	bool		heap = record->header.xl_rmid == RM_HEAP_ID || record->header.xl_rmid == RM_HEAP2_ID;

	for (int i = 0; i <= record->max_block_id; i++)
	{
		DecodedBkpBlock *block = &record->blocks[i];

		if (!block->in_use)
			continue;
		BLOCK_LOCATOR(block) = scratch;
		/* Heap records clear bits of maps that they do not refer to. */
		if (heap && block->forknum == MAIN_FORKNUM)
		{
			BlockNumber map = block->blkno / HEAP_BLOCKS_PER_MAP_PAGE;

			if (request->fork != VISIBILITYMAP_FORKNUM || request->block != map)
				put_page(VISIBILITYMAP_FORKNUM, map, NULL);
		}
		if (block->forknum == request->fork && block->blkno == request->block)
			continue;
		if (!block->apply_image && !(block->flags & BKPBLOCK_WILL_INIT))
			put_page(block->forknum, block->blkno, NULL);
	}
}

static void
serve(void)
{
	XLogReaderState *reader;
	DecodedXLogRecord *decoded = palloc(DecodeXLogRecordRequiredSpace(MAX_RECORD));
	char	   *record = palloc(MAX_RECORD);
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "walredo", ALLOCSET_DEFAULT_SIZES);
	char		page[BLCKSZ];
	Request		request;

	reader = XLogReaderAllocate(wal_segment_size, NULL,
								XL_ROUTINE(.page_read = NULL,.segment_open = NULL,.segment_close = NULL), NULL);
	while (receive_request(&request))
	{
		char	   *problem;
		Buffer		buffer;

		if (request.length > MAX_RECORD || !receive(page, BLCKSZ) || !receive(record, request.length))
			_exit(4);
		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		if (!DecodeXLogRecord(reader, decoded, (XLogRecord *) record, request.start, &problem))
			elog(FATAL, "walredo: %s", problem);
		reader->record = decoded;
		reader->ReadRecPtr = request.start;
		reader->EndRecPtr = request.end;
		forget_pages();
		put_page(request.fork, request.block, page);
		prepare_blocks(decoded, &request);
		RmgrTable[decoded->header.xl_rmid].rm_redo(reader);
		MemoryContextSwitchTo(TopMemoryContext);
		buffer = ReadBufferWithoutRelcache(scratch, request.fork, request.block, RBM_NORMAL, NULL, false);
		answer(BufferGetPage(buffer), BLCKSZ);
		ReleaseBuffer(buffer);
	}
}

static void
take_over(void)
{
	SMgrRelation relation;

	if (previous_hook)
		previous_hook();
	if (IsUnderPostmaster)
		return;
	InitProcess();
	BaseInit();
	InRecovery = true;
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "walredo");
	relation = smgropen(scratch, NO_BACKEND);
	for (int fork = 0; fork <= INIT_FORKNUM; fork++)
		smgrcreate(relation, fork, true);
	for (int rmgr = 0; rmgr <= RM_MAX_BUILTIN_ID; rmgr++)
		if (RmgrTable[rmgr].rm_startup)
			RmgrTable[rmgr].rm_startup();
	serve();
	_exit(0);
}

void
_PG_init(void)
{
	previous_hook = shmem_startup_hook;
	shmem_startup_hook = take_over;
}
