"""Bugs below the consensus: in the log, the hard state and the recovery."""

from __future__ import annotations

from replog.testing.mutants.kills import CRASHES, Scenario, Seed
from replog.testing.mutants.log_scenarios import (
    acknowledged_batch_loses_a_sector_like_a_torn_one,
    crashes_come_inside_an_installation,
    crashes_leave_whole_entries_behind_a_torn_one,
    entry_is_appended_while_a_sync_ends,
)
from replog.testing.mutants.planting import Edit, Mutant

_FORMAT = "replog.wal.format"

LOG: tuple[Mutant, ...] = (
    Mutant(
        name="no sync of the directory after replacing the hard state",
        breaks="the hard state's new name is not made durable",
        edits=(Edit("replog.storage.hard_state", "store", "fs.sync_dir(directory)", "pass"),),
        kills=(Seed(profile="crash-loop", seed=2, breaks=("S6", "S14")),),
    ),
    Mutant(
        name="no sync of the directory after making a segment",
        breaks="a new segment's name is not made durable",
        edits=(Edit("replog.wal.segment", "publish", "fs.sync_dir(directory)", "pass"),),
        kills=(Seed(profile="crash-loop", seed=4, breaks=("S14",)),),
    ),
    Mutant(
        name="no sync at all",
        breaks="entries are acknowledged from the system's memory",
        edits=(Edit("replog.wal.writer", "LogWriter.sync_written", "self._tip.file.sync()", "pass"),),
        kills=(Seed(profile="crash-loop", seed=3, breaks=("S14",)),),
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
        kills=(Seed(profile="failing-disks", seed=1, breaks=("S14",)),),
    ),
    Mutant(
        name="what a failed sync left in memory is believed",
        breaks="a log that is opened again reads the system's memory instead of the disk",
        edits=(Edit("replog.wal.opening", "_forget_lost_writes", "file.drop_cache()", "pass"),),
        kills=(Seed(profile="failing-disks", seed=6, breaks=("S14",)),),
    ),
    Mutant(
        name="checksum over data only",
        breaks="the length of an entry is not under its checksum, so zeros are entries",
        edits=(
            Edit(_FORMAT, "_Heads.__missing__", "codec.crc(head)", "0"),
            Edit(_FORMAT, "Codec._scan_mixed", "crc(buffer[position:end])", "crc(buffer[data_start:end])"),
            Edit(_FORMAT, "Codec._scan_run", "self.crc(buffer[position:stop])", "self.crc(buffer[data_start:stop])"),
            Edit(_FORMAT, "Codec._scan_run", "self.crc(buffer[position:data_start])", "0"),
        ),
        kills=(Seed(profile="crash-loop", seed=1, breaks=("S14",)),),
        caches=((_FORMAT, "codec_of"),),
    ),
    Mutant(
        name="completions out of order",
        breaks="the end of a sync vouches for what was written after its beginning",
        edits=(Edit("replog.wal.writer", "LogWriter.sync_written", "self._durable = target", "self._durable = self._tip.next_sequence"),),
        kills=(Scenario(entry_is_appended_while_a_sync_ends, ("S14",)),),
    ),
    Mutant(
        name="stops at the first bad entry in the middle",
        breaks="damage in the last segment counts as the end of the log",
        edits=(Edit("replog.wal.tail", "judge_tail", "return Tail.WHOLE", "return Tail.FILE_ENDS"),),
        kills=(Seed(profile="rotting-disks", seed=8, breaks=("S14",)),),
    ),
    Mutant(
        name="tail not zeroed",
        breaks="what lies behind a cut stays, and may become entries again",
        edits=(Edit("replog.wal.recovery", "cut_and_zero", "file.truncate(offset)", "pass"),),
        kills=(Scenario(crashes_leave_whole_entries_behind_a_torn_one, (CRASHES,)),),
    ),
    Mutant(
        name="maybe_promised dropped",
        breaks="a node whose log recovery cut forgets what it may have promised",
        edits=(Edit("replog.storage.opening", "_remember_promises", "if promised > stored.maybe_promised:", "if False:"),),
        kills=(Scenario(acknowledged_batch_loses_a_sector_like_a_torn_one, ("S4",)),),
    ),
    Mutant(
        name="segments released before the hard state is synced",
        breaks="an installed snapshot's log is adapted without the mark that lets a crash finish it",
        edits=(Edit("replog.storage.disk", "DiskStorage._persist_rare", "installing=(meta.index, meta.term), ", "installing=None, "),),
        kills=(Scenario(crashes_come_inside_an_installation, (CRASHES,)),),
    ),
)
