"""Bugs below the consensus: in the log, the hard state and the recovery."""

from __future__ import annotations

from replog.testing.mutants.planting import Edit, Mutant

LOG: tuple[Mutant, ...] = (
    Mutant(
        name="no sync of the directory after replacing the hard state",
        breaks="the hard state's new name is not made durable",
        edits=(Edit("replog.storage.hard_state", "store", "fs.sync_dir(directory)", "pass"),),
        kills=(),
        found_by=("S6",),
    ),
    Mutant(
        name="no sync of the directory after making a segment",
        breaks="a new segment's name is not made durable",
        edits=(Edit("replog.wal.segment", "publish", "fs.sync_dir(directory)", "pass"),),
        kills=(),
    ),
    Mutant(
        name="no sync at all",
        breaks="entries are acknowledged from the system's memory",
        edits=(Edit("replog.wal.writer", "LogWriter.sync_written", "self._tip.file.sync()", "pass"),),
        kills=(),
        found_by=("S14",),
    ),
    Mutant(
        name="sync retried after an error",
        breaks="a sync that failed is done again, and its success is believed",
        edits=(
            Edit(
                "replog.wal.writer",
                "LogWriter.sync_written",
                'raise self._fail(error, "sync") from error',
                "self._tip.file.sync()",
            ),
        ),
        kills=(),
        found_by=("S14",),
    ),
    Mutant(
        name="what a failed sync left in memory is believed",
        breaks="a log that is opened again reads the system's memory instead of the disk",
        edits=(Edit("replog.wal.opening", "_forget_lost_writes", "file.drop_cache()", "pass"),),
        kills=(),
        found_by=("S14",),
    ),
    Mutant(
        name="stops at the first bad entry in the middle",
        breaks="damage in the last segment counts as the end of the log",
        edits=(Edit("replog.wal.tail", "judge_tail", "return Tail.WHOLE", "return Tail.FILE_ENDS"),),
        kills=(),
        found_by=("S14",),
    ),
    Mutant(
        name="tail not zeroed",
        breaks="what lies behind a cut stays, and may become entries again",
        edits=(Edit("replog.wal.recovery", "cut_and_zero", "file.truncate(offset)", "pass"),),
        kills=(),
    ),
    Mutant(
        name="maybe_promised dropped",
        breaks="a node whose log recovery cut forgets what it may have promised",
        edits=(Edit("replog.storage.opening", "_remember_promises", "if promised > stored.maybe_promised:", "if False:"),),
        kills=(),
    ),
    Mutant(
        name="segments released before the hard state is synced",
        breaks="an installed snapshot's log is adapted without the mark that lets a crash finish it",
        edits=(Edit("replog.storage.disk", "DiskStorage._persist_rare", "installing=(meta.index, meta.term), ", "installing=None, "),),
        kills=(),
    ),
)
