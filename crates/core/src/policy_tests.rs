//! The rules of policies, and their moments beside another calendar.

use std::collections::HashMap;

use jiff::{SignedDuration, tz::TimeZone};
use proptest::prelude::*;

use super::*;

fn window(text: &str) -> StartWindow {
    StartWindow::parse(text).unwrap()
}

fn schedule(window_text: &str, period: &str) -> Schedule {
    Schedule { window: window(window_text), weekdays: Weekdays::parse(period).unwrap() }
}

fn instance(number: u32) -> InstanceId {
    InstanceId::from_stored(format!("{number:032x}in03"))
}

fn kind<T>(result: Result<T>) -> Option<crate::ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn days_are_kept_from_none_to_two_years() {
    let max = i64::from(limits::KEEP_DAYS_MAX);
    assert_eq!(max, 732, "documented to callers");
    assert_eq!(Keep::parse(0, true).unwrap(), Keep::Off { reserve: true });
    for good in [1, 7, max - 1, max] {
        assert_eq!(i64::from(Keep::parse(good, true).unwrap().days()), good);
    }
    for bad in [-1, max + 1, i64::MAX, i64::MIN, 65_536, 65_537] {
        let wanted = Some(crate::ErrorKind::Parameter(Field::KeepDays));
        assert_eq!(kind(Keep::parse(bad, true)), wanted, "{bad}");
    }
}

#[test]
fn windows_are_an_hour_from_a_quarter_on() {
    for good in ["00:00-01:00", "19:00-20:00", "23:00-00:00", "23:45-00:45", "08:15-09:15", "08:30-09:30"] {
        assert_eq!(window(good).to_string(), good);
    }
    let wanted = Some(crate::ErrorKind::Parameter(Field::StartTime));
    for bad in [
        "",
        "-",
        "19:00",
        "19:00-",
        "19:00-21:00",
        "19:00-19:00",
        "19:00-20:15",
        "19:10-20:10",
        "24:00-01:00",
        "23:00-24:00",
        "9:00-10:00",
        "19:00-20:00 ",
        " 19:00-20:00",
        "19:00–20:00",
        "+9:00-10:00",
        "19:60-20:60",
        "19:00-20:00-21:00",
        "19:00:00-20:00:00",
        "ab:cd-ef:gh",
        "１９:00-20:00",
    ] {
        assert_eq!(kind(StartWindow::parse(bad)), wanted, "{bad:?}");
    }
}

#[test]
fn a_start_is_rounded_down_to_its_quarter() {
    for (text, rounded) in [
        ("01:00:00", "01:00-02:00"),
        ("01:00", "01:00-02:00"),
        ("01:14:59", "01:00-02:00"),
        ("01:15", "01:15-02:15"),
        ("01:59:59", "01:45-02:45"),
        ("23:59:59", "23:45-00:45"),
    ] {
        assert_eq!(StartWindow::parse_start(text).unwrap().to_string(), rounded, "{text}");
    }
    let wanted = Some(crate::ErrorKind::Parameter(Field::StartTime));
    for bad in [
        "",
        "1:00",
        "01",
        "01:00:",
        "01:00:60",
        "01:00:0",
        "24:00",
        "01:60",
        "01:00:00Z",
        "01-00",
        "01:00 00",
        "ü1:00",
    ] {
        assert_eq!(kind(StartWindow::parse_start(bad)), wanted, "{bad:?}");
    }
}

#[test]
fn days_of_the_week_are_a_list_without_repetition() {
    for (text, shown) in [("1", "1"), ("7,1", "1,7"), (" 1 , 3", "1,3"), ("1,2,3,4,5,6,7", "1,2,3,4,5,6,7")] {
        assert_eq!(Weekdays::parse(text).unwrap().to_string(), shown);
    }
    let wanted = Some(crate::ErrorKind::Parameter(Field::Period));
    for bad in ["", ",", "1,", "0", "8", "1,1", "1;2", "1,2,", "1 2", "Monday", "１", "1\n", "-1"] {
        assert_eq!(kind(Weekdays::parse(bad)), wanted, "{bad:?}");
    }
}

#[test]
fn what_is_absent_from_a_change_stays() {
    let days = |days| Keep::parse(days, true).unwrap();
    let change = |keep, window, weekdays| PolicyChange { keep, window, weekdays };
    let unset = BackupPolicy::UNSET;
    let wanted = Some(crate::ErrorKind::Parameter(Field::StartTime));
    assert_eq!(kind(unset.changed(&change(days(7), None, None))), wanted, "a window is needed");
    assert_eq!(unset.changed(&change(days(0), None, None)).unwrap(), unset);

    let on = unset.changed(&change(days(7), Some(window("01:00-02:00")), None)).unwrap();
    assert_eq!(on.active(), Some(schedule("01:00-02:00", "1,2,3,4,5,6,7")), "all days when none is named");
    let some = on.changed(&change(days(7), None, Some(Weekdays::parse("6").unwrap()))).unwrap();
    assert_eq!(some.active(), Some(schedule("01:00-02:00", "6")));
    let off = some.changed(&change(days(0), None, None)).unwrap();
    assert_eq!((off.active(), off.schedule()), (None, some.schedule()), "remembered, not acted upon");
    assert_eq!(off.changed(&change(days(3), None, None)).unwrap().active(), some.schedule());
    assert_eq!(BackupPolicy::from_stored(days(1), None), None);
}

#[test]
fn what_shortens_is_told() {
    let of = |days, reserve| BackupPolicy {
        keep: Keep::parse(days, reserve).unwrap(),
        schedule: Some(schedule("01:00-02:00", "1")),
    };
    for (before, after, shortens) in [
        (of(7, true), of(6, true), true),
        (of(7, true), of(7, true), false),
        (of(7, true), of(8, true), false),
        (of(7, true), of(0, true), false),
        (of(7, true), of(0, false), true),
        (of(0, true), of(732, true), true),
        (of(0, false), of(1, true), false),
    ] {
        assert_eq!(after.shortens(&before), shortens, "{before:?} {after:?}");
    }
}

/// A thousand instances with one window: no five minutes of it have more than twice their share.
#[test]
fn t04_starts_are_spread_over_the_window() {
    let mut starts: HashMap<i64, usize> = HashMap::new();
    for number in 0..1_000 {
        let spread = spread_s(&instance(number));
        assert!((0..WINDOW_S).contains(&spread));
        *starts.entry(spread / 300).or_default() += 1;
    }
    let most = starts.values().max().unwrap();
    assert_eq!(starts.len(), 12);
    assert!(*most <= 2 * 1_000 / 12, "{starts:?}");
}

/// The moment of an instance is part of what people see: a release must not move it.
#[test]
fn the_moment_of_an_instance_stays() {
    assert_eq!([0, 1, 2].map(|number| spread_s(&instance(number))), [3019, 1343, 1571]);
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    (0_i64..96, 1_i64..128).prop_map(|(quarter, days)| Schedule {
        window: StartWindow::from_stored(quarter * 15).unwrap(),
        weekdays: Weekdays::from_stored(days).unwrap(),
    })
}

/// From 1970 to 2100, to the microsecond.
fn any_moment() -> impl Strategy<Value = Timestamp> {
    (0_i64..4_102_444_800_000_000).prop_map(from_micros)
}

proptest! {
    #[test]
    fn t02_each_due_moment_lies_in_its_window_on_its_day(
        schedule in any_schedule(), number in any::<u32>(), at in any_moment(),
    ) {
        let table = schedule.timetable(&instance(number));
        let due = table.next_after(at);
        prop_assert!(due > at);
        prop_assert!(due.duration_since(at) <= SignedDuration::from_hours(7 * 24));
        // Another calendar than ours says which day and hour that is.
        let opened = due - SignedDuration::from_secs(spread_s(&instance(number)));
        let opened = opened.to_zoned(TimeZone::UTC);
        let (hour, minute) = schedule.window.opens();
        prop_assert_eq!((opened.hour(), opened.minute(), opened.second()), (hour as i8, minute as i8, 0));
        let weekday = opened.weekday().to_monday_one_offset().to_string();
        prop_assert!(schedule.weekdays.to_string().contains(&weekday), "{} {}", opened, schedule.weekdays);
    }

    /// Walking from one moment to the next meets each allowed day once, and none else: month ends,
    /// leap days and years' ends included.
    #[test]
    fn t02_each_slot_comes_once(schedule in any_schedule(), number in any::<u32>(), at in any_moment()) {
        let table = schedule.timetable(&instance(number));
        let end = at + SignedDuration::from_hours(24 * 7 * 60);
        let (mut now, mut met) = (at, 0);
        loop {
            let next = table.next_after(now);
            if next > end {
                break;
            }
            prop_assert_eq!(table.last_until(next), next);
            prop_assert!(table.last_until(next - SignedDuration::from_micros(1)) <= now);
            (now, met) = (next, met + 1);
        }
        prop_assert_eq!(met, 60 * schedule.weekdays.bits().count_ones());
    }

    #[test]
    fn the_last_and_the_next_are_neighbours(
        schedule in any_schedule(), number in any::<u32>(), at in any_moment(),
    ) {
        let table = schedule.timetable(&instance(number));
        let last = table.last_until(at);
        prop_assert!(last <= at);
        prop_assert_eq!(table.next_after(last), table.next_after(at));
        let first = table.first_from(at);
        if first <= at {
            prop_assert_eq!(first, last);
            prop_assert!(!table.is_late(first, at));
        } else {
            prop_assert_eq!(first, table.next_after(at));
        }
    }

    #[test]
    fn parsing_takes_what_is_shown(schedule in any_schedule()) {
        prop_assert_eq!(StartWindow::parse(&schedule.window.to_string()).unwrap(), schedule.window);
        prop_assert_eq!(Weekdays::parse(&schedule.weekdays.to_string()).unwrap(), schedule.weekdays);
    }

    #[test]
    fn no_text_breaks_the_parsers(text in "\\PC{0,24}") {
        let _ = (StartWindow::parse(&text), StartWindow::parse_start(&text), Weekdays::parse(&text));
    }
}

/// A window that has opened and is not over counts; one of another day does not.
#[test]
fn a_policy_begins_with_the_window_that_is_open() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    // 2026-03-04 is a Wednesday.
    let (id, daily) = (instance(7), schedule("23:30-00:30", "3"));
    let table = daily.timetable(&id);
    let due = at("2026-03-04T23:30:00Z") + SignedDuration::from_secs(spread_s(&id));
    for moment in ["2026-03-04T23:30:00Z", "2026-03-05T00:29:59.999999Z"] {
        assert_eq!(table.first_from(at(moment)), due, "{moment}");
    }
    assert_eq!(table.first_from(at("2026-03-04T23:29:59Z")), due);
    let week = SignedDuration::from_hours(7 * 24);
    for moment in ["2026-03-05T00:30:00Z", "2026-03-05T23:45:00Z"] {
        assert_eq!(table.first_from(at(moment)), due + week, "{moment}");
    }
    assert!(!table.is_late(due, at("2026-03-05T00:29:59Z")));
    assert!(table.is_late(due, at("2026-03-05T00:30:00Z")));
}
