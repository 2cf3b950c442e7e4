//! Policies: when automated backups of an instance begin, and how long they are kept.
//!
//! Everything is UTC: no change of summer time, no month's end and no leap day moves a start. The
//! moment inside the window is the same on every day, and another for each instance.

use std::fmt;

use jiff::Timestamp;

use crate::id::InstanceId;
use crate::time::{from_micros, to_micros};
use crate::{Error, Field, Result, limits};

/// Every window is as long (contract 3.14).
pub const WINDOW_S: i64 = 60 * 60;
const DAY_S: i64 = 24 * 60 * 60;
const MICROS: i64 = 1_000_000;
/// Windows begin on a quarter of an hour.
const QUARTER_MINUTES: u16 = 15;

/// Days for which automated backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeepDays(u16);

impl KeepDays {
    pub const fn days(self) -> u16 {
        self.0
    }
}

/// What becomes of automated backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// None are made any more.
    Off {
        /// Those that exist stay until somebody deletes them; else they go now.
        reserve: bool,
    },
    Days(KeepDays),
}

impl Keep {
    /// 0 to 732 days, where 0 switches automated backups off.
    pub fn parse(days: i64, reserve: bool) -> Result<Self> {
        match u16::try_from(days) {
            Ok(0) => Ok(Self::Off { reserve }),
            Ok(days) if days <= limits::KEEP_DAYS_MAX => Ok(Self::Days(KeepDays(days))),
            _ => Err(Error::parameter(
                Field::KeepDays,
                format!("keep_days: must be 0 to {}, where 0 is off", limits::KEEP_DAYS_MAX),
            )),
        }
    }

    /// As the dialects count it.
    pub const fn days(self) -> u16 {
        match self {
            Self::Off { .. } => 0,
            Self::Days(days) => days.0,
        }
    }

    /// How long after its end a backup goes by the rule; `None` is never.
    pub(crate) fn kept_s(self) -> Option<i64> {
        match self {
            Self::Off { reserve: true } => None,
            Self::Off { reserve: false } => Some(0),
            Self::Days(days) => Some(i64::from(days.0) * DAY_S),
        }
    }

    /// Whether this keeps something less long than `before` did.
    fn shortens(self, before: Self) -> bool {
        let length = |keep: Self| keep.kept_s().unwrap_or(i64::MAX);
        length(self) < length(before)
    }
}

/// The hour in which a backup begins, as the minute of the day at which it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartWindow(u16);

impl StartWindow {
    /// `19:00-20:00`: an hour that opens on a quarter of an hour.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::parameter(
                Field::StartTime,
                "start_time: must be hh:mm-HH:mm in UTC, one hour long, mm being 00, 15, 30 or 45",
            )
        };
        let (opens, closes) = text.split_once('-').ok_or_else(wrong)?;
        let opens = minute_of_day(opens).filter(|minute| minute % QUARTER_MINUTES == 0).ok_or_else(wrong)?;
        let closes = minute_of_day(closes).ok_or_else(wrong)?;
        if (opens + 60) % (24 * 60) != closes {
            return Err(wrong());
        }
        Ok(Self(opens))
    }

    /// `01:10:00` or `01:10`: the quarter of an hour in it (contract 3.4).
    pub fn parse_start(text: &str) -> Result<Self> {
        let wrong =
            || Error::parameter(Field::StartTime, "starttime: must be hh:mm:ss or hh:mm in UTC, not empty");
        let minute = match text.get(5..) {
            Some("") => minute_of_day(text),
            Some(seconds) => {
                let is_second =
                    seconds.strip_prefix(':').is_some_and(|digits| two_digits(digits, 60).is_some());
                text.get(..5).filter(|_| is_second).and_then(minute_of_day)
            }
            None => None,
        };
        let minute = minute.ok_or_else(wrong)?;
        Ok(Self(minute - minute % QUARTER_MINUTES))
    }

    pub fn from_stored(minute: i64) -> Option<Self> {
        u16::try_from(minute)
            .ok()
            .filter(|minute| *minute < 24 * 60 && minute % QUARTER_MINUTES == 0)
            .map(Self)
    }

    /// Hour and minute at which it opens.
    pub const fn opens(self) -> (u16, u16) {
        (self.0 / 60, self.0 % 60)
    }

    pub const fn minute_of_day(self) -> u16 {
        self.0
    }
}

impl fmt::Display for StartWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hour, minute) = self.opens();
        write!(f, "{hour:02}:{minute:02}-{:02}:{minute:02}", (hour + 1) % 24)
    }
}

/// Exactly two digits below `end`.
fn two_digits(text: &str, end: u16) -> Option<u16> {
    let are_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| are_digits && *number < end)
}

/// `hh:mm`
fn minute_of_day(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    Some(two_digits(hour, 24)? * 60 + two_digits(minute, 60)?)
}

/// Some days of the week; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekdays(u8);

impl Weekdays {
    pub const ALL: Self = Self(0b111_1111);

    /// `1,2,7`: 1 is Monday, no day twice, spaces do not matter.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::parameter(
                Field::Period,
                "period: must be days of the week from 1 (Monday) to 7, with commas between, none twice",
            )
        };
        let mut days = 0_u8;
        for day in text.split(',') {
            let day = match day.trim_matches(' ').as_bytes() {
                [digit @ b'1'..=b'7'] => 1 << (digit - b'1'),
                _ => return Err(wrong()),
            };
            if days & day != 0 {
                return Err(wrong());
            }
            days |= day;
        }
        Ok(Self(days))
    }

    pub fn from_stored(bits: i64) -> Option<Self> {
        u8::try_from(bits).ok().filter(|bits| (1..=Self::ALL.0).contains(bits)).map(Self)
    }

    /// A bit a day, Monday the lowest.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the day of this number since 1970-01-01, a Thursday, is one of them.
    fn has(self, day: i64) -> bool {
        self.0 & (1 << (day + 3).rem_euclid(7)) != 0
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = (0..7).filter(|day| self.0 & (1 << day) != 0).map(|day| (day + 1).to_string());
        f.write_str(&days.collect::<Vec<_>>().join(","))
    }
}

/// When automated backups begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub window: StartWindow,
    /// The days on which the window opens.
    pub weekdays: Weekdays,
}

impl Schedule {
    /// The moments at which backups of this instance are due.
    pub fn timetable(&self, instance: &InstanceId) -> Timetable {
        let opens_s = i64::from(self.window.0) * 60;
        Timetable { opens_s, spread_s: spread_s(instance), weekdays: self.weekdays }
    }
}

/// How far into its window an instance begins: by its id, so that many instances with one window
/// do not begin at once. FNV-1a, and a finish that spreads its result over all bits.
fn spread_s(instance: &InstanceId) -> i64 {
    let mut hash = instance.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb), (31, 1)] {
        hash = (hash ^ (hash >> shift)).wrapping_mul(factor);
    }
    (hash % WINDOW_S.unsigned_abs()).cast_signed()
}

/// The moments at which backups of one instance are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timetable {
    opens_s: i64,
    spread_s: i64,
    weekdays: Weekdays,
}

impl Timetable {
    fn opens(&self, day: i64) -> i64 {
        day.saturating_mul(DAY_S).saturating_add(self.opens_s).saturating_mul(MICROS)
    }

    fn due(&self, day: i64) -> Option<i64> {
        self.weekdays.has(day).then(|| self.opens(day).saturating_add(self.spread_s * MICROS))
    }

    /// Days since 1970-01-01; a window that opened before midnight may be open still.
    fn day_of(at: Timestamp) -> i64 {
        to_micros(at).div_euclid(DAY_S * MICROS)
    }

    /// The first due moment after `at`.
    pub fn next_after(&self, at: Timestamp) -> Timestamp {
        let today = Self::day_of(at);
        let found = (today - 1..=today + 7).find_map(|day| self.due(day).filter(|due| *due > to_micros(at)));
        found.map_or(Timestamp::MAX, from_micros)
    }

    /// The last due moment that is not after `at`.
    pub fn last_until(&self, at: Timestamp) -> Timestamp {
        let today = Self::day_of(at);
        let mut days = (today - 8..=today).rev();
        let found = days.find_map(|day| self.due(day).filter(|due| *due <= to_micros(at)));
        found.map_or(Timestamp::MIN, from_micros)
    }

    /// The first due moment of a policy that begins to hold at `at`: in a window that is open, its
    /// moment counts even if it has passed, so that nobody waits for tomorrow's.
    pub fn first_from(&self, at: Timestamp) -> Timestamp {
        let (today, now) = (Self::day_of(at), to_micros(at));
        let is_open = |day: &i64| (self.opens(*day)..self.opens(*day) + WINDOW_S * MICROS).contains(&now);
        let open = [today - 1, today].into_iter().filter(is_open).find_map(|day| self.due(day));
        open.map_or_else(|| self.next_after(at), from_micros)
    }

    /// Whether the window of this due moment is over at `now`: what begins then is late.
    pub fn is_late(&self, due: Timestamp, now: Timestamp) -> bool {
        to_micros(now) >= to_micros(due) + (WINDOW_S - self.spread_s) * MICROS
    }
}

/// What holds for an instance. Where automated backups are made there is a schedule; where they are
/// off, the schedule from before is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupPolicy {
    keep: Keep,
    schedule: Option<Schedule>,
}

/// What somebody wants to hold; what is absent stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyChange {
    pub keep: Keep,
    pub window: Option<StartWindow>,
    pub weekdays: Option<Weekdays>,
}

impl BackupPolicy {
    /// Nobody has said anything yet.
    pub const UNSET: Self = Self { keep: Keep::Off { reserve: true }, schedule: None };

    /// As it was stored; nothing when it cannot have been stored by us.
    pub fn from_stored(keep: Keep, schedule: Option<Schedule>) -> Option<Self> {
        (schedule.is_some() || matches!(keep, Keep::Off { .. })).then_some(Self { keep, schedule })
    }

    pub const fn keep(&self) -> Keep {
        self.keep
    }

    /// Also while automated backups are off.
    pub const fn schedule(&self) -> Option<Schedule> {
        self.schedule
    }

    /// By what automated backups begin, where they do.
    pub fn active(&self) -> Option<Schedule> {
        self.schedule.filter(|_| matches!(self.keep, Keep::Days(_)))
    }

    /// What holds after the change. Without a word about days of the week, all of them are meant.
    pub fn changed(&self, change: &PolicyChange) -> Result<Self> {
        let window = change.window.or(self.schedule.map(|schedule| schedule.window));
        let weekdays = change.weekdays.or(self.schedule.map(|schedule| schedule.weekdays));
        let schedule = window.map(|window| Schedule { window, weekdays: weekdays.unwrap_or(Weekdays::ALL) });
        Self::from_stored(change.keep, schedule).ok_or_else(|| {
            Error::parameter(
                Field::StartTime,
                "start_time: is missing, and there is none from before; nothing was changed",
            )
        })
    }

    /// Whether something goes earlier than it would have gone by `before`.
    pub fn shortens(&self, before: &Self) -> bool {
        self.keep.shortens(before.keep)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
