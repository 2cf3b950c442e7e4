//! What is in the store, and where each process stands.

/// Attempt 0 is sealed from the beginning, 1 and 2 are the writers'. Where a backup is stored anew it is
/// attempt 1, sealed from the beginning too, and becomes attempt 2.
pub(crate) const ATTEMPTS: usize = 3;
/// The intent that keeps attempt 1 while it is stored anew; those before it are the attempts'.
pub(crate) const GUARD: usize = ATTEMPTS;
pub(crate) const INTENTS: usize = ATTEMPTS + 1;
/// Generations of a pack that the model can tell apart.
pub(crate) const GENERATIONS: usize = 3;

/// A rule that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    SecondLook,
    Intents,
    DecisionBeforeIntents,
    IntentsBeforeVerdicts,
    RewriteBeforeDelete,
    Bases,
    VerdictBeforeIntentGoes,
    VerdictForOpenIntents,
    LastingVerdicts,
    OneDecision,
    ReaderIntent,
    ReaderLook,
    TombstonesBeforeHolds,
    HoldLook,
    Grace,
    IntentsOfSealed,
    Abandoning,
    Guard,
    LookAtOld,
    MoveAfterVerdict,
    MoveOnlyTheOld,
    ForgetAfterMove,
    ForgetWhatIsNotMovedTo,
    Settling,
    SettlingByTheRow,
}

/// Who takes part.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each takes part or not, in any combination")]
pub(crate) struct Setting {
    pub(crate) writers: u8,
    /// Both writers stand on attempt 0; otherwise the second one stands on the first.
    pub(crate) are_siblings: bool,
    pub(crate) reads: bool,
    /// Bit for each attempt that somebody may forget.
    pub(crate) forgets: u8,
    pub(crate) undoes: bool,
    pub(crate) is_held: bool,
    /// The backup of attempt 1 is stored anew as attempt 2.
    pub(crate) rebases: bool,
    /// Somebody deletes that backup.
    pub(crate) deletes: bool,
    /// Sweeps of each of two sweepers.
    pub(crate) sweeps: [u8; 2],
    /// Processes that may crash.
    pub(crate) crashes: u8,
    /// A listing of intents or tombstones does not show what was put just before.
    pub(crate) is_late: bool,
    pub(crate) without: Option<Without>,
}

impl Setting {
    pub(crate) fn lacks(&self, rule: Without) -> bool {
        self.without == Some(rule)
    }

    /// The attempt that an intent keeps.
    pub(crate) fn parent(&self, intent: usize) -> usize {
        match intent {
            GUARD => 1,
            2 if self.rebases => 0,
            intent => usize::from(intent == 2 && !self.are_siblings),
        }
    }
}

/// Records are bits: pack n has the bits 2n and 2n + 1.
pub(crate) type Records = u8;

pub(crate) const fn of_pack(pack: usize) -> Records {
    0b11 << (2 * pack)
}

/// What a backup needs: its own two records, and of its parent's the first, on which it stands as
/// a delta, with that one's bases.
fn needs(are_siblings: bool, attempt: usize) -> Records {
    match attempt {
        0 => 0b00_00_11,
        1 => 0b00_11_01,
        _ if are_siblings => 0b11_00_01,
        _ => 0b11_01_01,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    None,
    Sealed,
    Abandoned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Tombstone {
    None,
    Put,
    Swept,
    Undone,
}

/// Which attempt a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    Is(usize),
    /// It is about to be deleted.
    Leaving(usize),
    Gone,
}

/// Where a process stands; the numbers are explained where its steps are.
pub(crate) type At = u8;
pub(crate) const ENDED: At = 200;
pub(crate) const CRASHED: At = 201;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sweeper {
    pub(crate) at: At,
    /// Which attempt or pack a step is at, and where within it.
    pub(crate) cursor: u8,
    pub(crate) inner: u8,
    pub(crate) left: u8,
    pub(crate) packs: [u8; ATTEMPTS],
    pub(crate) undecided: u8,
    pub(crate) dead: u8,
    pub(crate) intents: u8,
    pub(crate) is_read: bool,
    pub(crate) verdicts: [Verdict; ATTEMPTS],
}

impl Sweeper {
    pub(crate) fn new(sweeps: u8) -> Self {
        Self {
            at: if sweeps == 0 { ENDED } else { 0 },
            cursor: 0,
            inner: 0,
            left: sweeps,
            packs: [0; ATTEMPTS],
            undecided: 0,
            dead: 0,
            intents: 0,
            is_read: false,
            verdicts: [Verdict::None; ATTEMPTS],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "an object is there or not")]
pub(crate) struct State {
    are_siblings: bool,
    /// What each generation of each pack holds, if it is there.
    pub(crate) packs: [[Option<Records>; GENERATIONS]; ATTEMPTS],
    pub(crate) verdicts: [Verdict; ATTEMPTS],
    pub(crate) intents: u8,
    pub(crate) reader_intent: bool,
    pub(crate) tombstones: [Tombstone; ATTEMPTS],
    /// A hold on attempt 0, and whether its owner was told that it stands.
    pub(crate) hold: bool,
    pub(crate) hold_stands: bool,
    /// Put so lately that a late listing does not show them.
    pub(crate) fresh_intents: u8,
    pub(crate) fresh_tombstones: u8,
    pub(crate) writers: [At; 2],
    pub(crate) reader: At,
    pub(crate) holder: At,
    pub(crate) forgetting: [At; ATTEMPTS],
    pub(crate) undo: At,
    pub(crate) sweepers: [Sweeper; 2],
    pub(crate) crashes_left: u8,
    pub(crate) has_read_nothing: bool,
    rebases: bool,
    pub(crate) row: Row,
    pub(crate) rebaser: At,
    pub(crate) heir: At,
    pub(crate) deleter: At,
}

impl State {
    pub(crate) fn begin(setting: &Setting) -> Self {
        let on = |is_on: bool| if is_on { 0 } else { ENDED };
        let old = setting.rebases.then_some(of_pack(1));
        let old_verdict = if setting.rebases { Verdict::Sealed } else { Verdict::None };
        Self {
            are_siblings: setting.are_siblings,
            packs: [[Some(of_pack(0)), None, None], [old, None, None], [None; GENERATIONS]],
            verdicts: [Verdict::Sealed, old_verdict, Verdict::None],
            intents: 0,
            reader_intent: false,
            tombstones: [Tombstone::None; ATTEMPTS],
            hold: false,
            hold_stands: false,
            fresh_intents: 0,
            fresh_tombstones: 0,
            writers: [on(setting.writers > 0), on(setting.writers > 1)],
            reader: on(setting.reads),
            holder: on(setting.is_held),
            forgetting: std::array::from_fn(|attempt| on(setting.forgets & (1 << attempt) != 0)),
            undo: on(setting.undoes),
            sweepers: setting.sweeps.map(Sweeper::new),
            crashes_left: setting.crashes,
            has_read_nothing: false,
            rebases: setting.rebases,
            row: Row::Is(1),
            rebaser: on(setting.rebases),
            heir: on(setting.rebases),
            deleter: if setting.deletes { 0 } else { CRASHED },
        }
    }

    pub(crate) fn is_forgotten(&self, attempt: usize) -> bool {
        matches!(self.tombstones[attempt], Tombstone::Put | Tombstone::Swept)
    }

    pub(crate) fn put_tombstone(&mut self, attempt: usize) {
        if self.tombstones[attempt] == Tombstone::None {
            self.tombstones[attempt] = Tombstone::Put;
            self.fresh_tombstones |= 1 << attempt;
        }
    }

    pub(crate) fn is_visible(&self, attempt: usize) -> bool {
        self.verdicts[attempt] == Verdict::Sealed && !self.is_forgotten(attempt)
    }

    pub(crate) fn needs(&self, attempt: usize) -> Records {
        // Stored anew, it stands on what attempt 0 is, no longer on what that one stands on, and takes
        // one record over as it was.
        if self.rebases && attempt == 2 { 0b11_01_10 } else { needs(self.are_siblings, attempt) }
    }

    /// What a reader finds: the generation its tree hints at, else the newest.
    pub(crate) fn readable(&self) -> Records {
        let of = |generations: &[Option<Records>; GENERATIONS]| {
            generations[0].or_else(|| generations.iter().rev().find_map(|held| *held)).unwrap_or(0)
        };
        self.packs.iter().map(of).fold(0, |all, held| all | held)
    }

    /// What must never be so.
    pub(crate) fn loss(&self) -> Option<String> {
        let readable = self.readable();
        for attempt in 0..ATTEMPTS {
            let missing = self.needs(attempt) & !readable;
            if self.is_visible(attempt) && missing != 0 {
                return Some(format!("backup {attempt} needs what is gone: {missing:06b}"));
            }
        }
        if self.rebases
            && let Some(what) = super::rebaser::loss(self)
        {
            return Some(what);
        }
        if self.has_read_nothing {
            return Some("a reader reads what is gone".to_owned());
        }
        if self.hold_stands && self.verdicts[0] == Verdict::Sealed && self.needs(0) & !readable != 0 {
            return Some("a held backup is gone".to_owned());
        }
        if self.hold_stands && self.tombstones[0] == Tombstone::Swept {
            return Some("a held backup is swept".to_owned());
        }
        None
    }
}
