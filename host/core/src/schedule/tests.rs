#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::*;

fn ticks(cron: &str, zone: &str) -> Ticks {
    Ticks::new(&cron.parse().unwrap(), &zone.parse().unwrap())
}

/// A time in UTC.
fn at(text: &str) -> Tick {
    Tick(text.parse::<jiff::Timestamp>().unwrap().as_second())
}

#[test]
fn cron_lines() {
    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = text.parse::<Cron>().map_err(|error| error.to_string());
        match (parsed, expected) {
            (Ok(cron), Ok(first)) => {
                let first_found = Ticks::new(&cron, &Zone::default()).after(at("2025-12-31T23:59:59Z")).unwrap();
                assert_eq!(first_found.to_string(), first, "{text}");
            }
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
            (parsed, expected) => panic!("{text}: {parsed:?}, not {expected:?}"),
        }
    }
    check("*/5 * * * *", Ok("2026-01-01T00:00:00Z"));
    check("* * * * * *", Ok("2026-01-01T00:00:00Z"));
    check("30 15 10 * * *", Ok("2026-01-01T10:15:30Z"));
    check("0 3 * * MON-FRI", Ok("2026-01-01T03:00:00Z"));
    check("0 0 29 2 *", Ok("2028-02-29T00:00:00Z"));
    check("0 0 L * *", Ok("2026-01-31T00:00:00Z"));
    check("0 0 * * 7", Ok("2026-01-04T00:00:00Z"));
    check("@daily", Ok("2026-01-01T00:00:00Z"));
    check("", Err("it has 0 fields"));
    check("* * * *", Err("it has 4 fields"));
    check("0 0 0 1 1 * 2030", Err("it has 7 fields"));
    check("60 * * * *", Err("invalid cron line"));
    check("x * * * *", Err("invalid cron line"));
    check("@now", Err("invalid cron line"));
    check("5-1 * * * *", Err("invalid cron line"));
    check(&"*".repeat(300), Err("too long"));
    check("0 0 30 2 *", Err("never comes"));
    check("0 0 31 4,6,9,11 *", Err("never comes"));
}

/// Whatever is written in a configuration, it is a cron line or an error.
#[test]
fn hostile_cron_lines() {
    const PARTS: [&str; 32] = [
        "*",
        " ",
        " ",
        " ",
        " ",
        "0",
        "1",
        "59",
        "60",
        "31",
        "12",
        "7",
        "-",
        "-",
        "/",
        "/",
        ",",
        ",",
        "?",
        "L",
        "W",
        "#",
        "+",
        "@",
        "MON",
        "JAN",
        "é",
        "99999999999",
        "\t",
        "0 0 ",
        "* * ",
        "#L",
    ];
    // Each is right in some field, and wrong in others.
    const FIELDS: [&str; 12] = ["*", "*", "*", "*/7", "1", "5-6", "1,3", "12", "L", "31", "MON", "2/0"];
    let (mut state, mut valid) = (7_u64, 0);
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for _ in 0..1_000 {
        // Any text, or the right number of fields.
        let text = if random(2) == 0 {
            (0..random(16)).map(|_| PARTS[random(PARTS.len())]).collect()
        } else {
            [(); 5].map(|()| FIELDS[random(FIELDS.len())]).join(" ")
        };
        if let Ok(cron) = text.parse::<Cron>() {
            valid += 1;
            let ticks = Ticks::new(&cron, &Zone::default());
            let next = ticks.after(at("2026-01-01T00:00:00Z"));
            assert!(next.is_some_and(|next| ticks.until(next) == Some(next)), "{text}: {next:?}");
        }
    }
    assert!((100..400).contains(&valid), "{valid} are valid");
}

#[test]
fn time_zones() {
    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = text.parse::<Zone>().map_err(|error| error.to_string());
        match (parsed, expected) {
            (Ok(zone), Ok(name)) => assert_eq!(zone.name(), name),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
            (parsed, expected) => panic!("{text}: {parsed:?}, not {expected:?}"),
        }
    }
    check("UTC", Ok("UTC"));
    check("Europe/Berlin", Ok("Europe/Berlin"));
    check("Europe/Berlun", Err("did you mean \"Europe/Berlin\"?"));
    check("CET-1CEST", Err("unknown time zone"));
    check("", Err("unknown time zone"));
}

/// In both directions: the last tick until a point in time is one that is found from the tick before it.
#[test]
fn local_times_that_do_not_exist_or_exist_twice() {
    fn check(cron: &str, zone: &str, from: &str, expected: &[&str]) {
        let ticks = ticks(cron, zone);
        let mut tick = at(from);
        for next in expected {
            tick = ticks.after(tick).unwrap();
            assert_eq!(ticks.local_text(tick), *next, "{cron} in {zone}");
            assert_eq!(ticks.until(tick), Some(tick), "{cron} in {zone}, at {next}");
        }
    }
    let berlin = "Europe/Berlin";
    // 02:00 is followed by 03:00 in the morning of 29 March: a fixed time in between is moved to its end …
    check(
        "30 2 * * *",
        berlin,
        "2026-03-28T00:00:00Z",
        &["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    );
    // … and what repeats within the hour has no ticks in it.
    check(
        "*/30 * * * *",
        berlin,
        "2026-03-29T00:29:00Z",
        &["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
    );
    // 03:00 is followed by 02:00 in the morning of 25 October: a fixed time comes once, the first time …
    check("30 2 * * *", berlin, "2026-10-24T12:00:00Z", &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    // … and what repeats within the hour goes on.
    check(
        "*/30 * * * *",
        berlin,
        "2026-10-25T00:00:00Z",
        &[
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T03:00:00+01:00",
        ],
    );
    // Half an hour.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-02T15:00:00Z",
        &["2026-10-03T02:15:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
    );
    check("0 3 * * *", "UTC", "2026-03-29T00:00:00Z", &["2026-03-29T03:00:00+00:00"]);
}

/// Of every fifth minute of the days when clocks are changed: what is found backwards is what was found forwards.
#[test]
fn both_directions_find_the_same() {
    for (zone, days) in [
        ("Europe/Berlin", ["2026-03-29", "2026-10-25"]),
        ("America/New_York", ["2026-03-08", "2026-11-01"]),
        ("Australia/Lord_Howe", ["2026-10-03", "2026-04-04"]),
    ] {
        for cron in ["30 2 * * *", "*/30 * * * *", "15 1-3 * * *", "0 * * * *", "0 0 * * *", "5 2 29 3 *"] {
            let ticks = ticks(cron, zone);
            for day in days {
                let begin = at(&format!("{day}T00:00:00Z"));
                let mut last = ticks.until(begin);
                for minutes in 1..=30 * 12 {
                    let now = Tick(begin.0 + minutes * 300);
                    let until = ticks.until(now);
                    if until != last {
                        let before = last.unwrap();
                        assert_eq!(ticks.after(before), until, "{cron} in {zone} at {now}");
                        last = until;
                    }
                }
            }
        }
    }
}

fn plan(cron: &str) -> Plan {
    Plan {
        ticks: ticks(cron, "UTC"),
        times: cron.to_owned(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        retries: 0,
        since: Tick(1_000),
    }
}

fn ledger(plan: &Plan) -> Ledger {
    Ledger::adopted(None, plan).unwrap()
}

/// The tick that begins a run, how many are missed, and the one that is skipped.
#[track_caller]
fn check(ledger: &mut Ledger, plan: &Plan, now: i64, begins: Option<i64>, missed: u64, skipped: Option<i64>) {
    let step = ledger.decide(plan, Tick(now), &format!("at {now}"));
    let seen = (step.begin.map(|run| run.tick.0), step.missed, step.skipped.map(|tick| tick.0));
    assert_eq!(seen, (begins, missed, skipped), "at {now}");
    let Totals { begun, ok, failed, lost, .. } = ledger.totals;
    assert_eq!(begun, ok + failed + lost + ledger.running.len() as u64, "{ledger:?}");
}

#[test]
fn each_tick_is_decided_once() {
    let plan = Plan { overlap: Overlap::Allow, ..plan("* * * * * *") };
    let mut ledger = ledger(&plan);
    check(&mut ledger, &plan, 1_000, None, 0, None);
    check(&mut ledger, &plan, 1_001, Some(1_001), 0, None);
    check(&mut ledger, &plan, 1_001, None, 0, None);
    // The clock is set back a little.
    check(&mut ledger, &plan, 990, None, 0, None);
    check(&mut ledger, &plan, 1_002, Some(1_002), 0, None);
    // It is set forward: the seconds in between are missed.
    check(&mut ledger, &plan, 1_010, Some(1_010), 7, None);
    check(&mut ledger, &plan, 5_000, Some(5_000), 1_000, None);
    // And far back.
    check(&mut ledger, &plan, 2_000, None, 0, None);
    assert!(is_ahead(ledger.last, Tick(2_000)) && !is_ahead(ledger.last, Tick(4_990)));
    check(&mut ledger, &plan, 5_001, Some(5_001), 0, None);
}

#[test]
fn a_tick_while_the_run_before_it_goes_on() {
    let skip = plan("* * * * * *");
    let mut first = ledger(&skip);
    let run = first.decide(&skip, Tick(1_001), "a").begin.unwrap();
    check(&mut first, &skip, 1_002, None, 0, Some(1_002));
    assert!(first.end(&skip, &run, Ended::Failed));
    check(&mut first, &skip, 1_003, Some(1_003), 0, None);

    let allow = Plan { overlap: Overlap::Allow, ..skip };
    let mut second = ledger(&allow);
    for tick in 1_001..=1_016 {
        check(&mut second, &allow, tick, Some(tick), 0, None);
    }
    check(&mut second, &allow, 1_017, None, 0, Some(1_017));
}

#[test]
fn ticks_when_nobody_ran() {
    let none = plan("0 * * * *");
    let mut first = ledger(&none);
    check(&mut first, &none, 3_630, Some(3_600), 0, None);
    let run = first.running[0].clone();
    assert!(first.end(&none, &run, Ended::Ok));
    check(&mut first, &none, 7_231, None, 1, None);
    check(&mut first, &none, 18_100, None, 3, None);
    check(&mut first, &none, 21_601, Some(21_600), 0, None);

    let last = Plan { catch_up: CatchUp::Last, ..none };
    let mut second = ledger(&last);
    check(&mut second, &last, 18_100, Some(18_000), 4, None);
    check(&mut second, &last, 18_101, None, 0, None);
}

#[test]
fn other_times_begin_when_they_are_configured() {
    let before = Plan { catch_up: CatchUp::Last, ..plan("0 * * * *") };
    let mut shared = ledger(&before);
    check(&mut shared, &before, 3_600, Some(3_600), 0, None);
    let run = shared.running[0].clone();
    assert!(shared.end(&before, &run, Ended::Ok));
    // Of the new times, 04:30 has passed when they are configured.
    let changed = Plan { times: "30 * * * *".into(), since: Tick(19_000), ..plan("30 * * * *") };
    let changed = Plan { catch_up: CatchUp::Last, ..changed };
    let adopted = Ledger::adopted(Some(&shared), &changed).unwrap();
    assert_eq!((adopted.last, adopted.totals), (Tick(19_000), shared.totals));
    assert_eq!(Ledger::adopted(Some(&adopted), &changed), None);
    let mut adopted = adopted;
    check(&mut adopted, &changed, 19_001, None, 0, None);
    // A server that still has the former times goes on with them.
    check(&mut adopted, &before, 21_600, Some(21_600), 0, None);
    check(&mut adopted, &changed, 23_400, None, 0, Some(23_400));
}

#[test]
fn a_lost_run_is_begun_again_with_retries_only() {
    for retries in [0, 2] {
        let plan = Plan { retries, ..plan("* * * * * *") };
        let mut ledger = ledger(&plan);
        let mut run = ledger.decide(&plan, Tick(1_001), "first").begin.unwrap();
        // What was seen is not what is there: its owner lives.
        let seen = run.clone();
        assert!(ledger.beat(&run));
        assert_eq!(ledger.take_over(&plan, &seen, "thief"), Step::default());
        for attempt in 1..=retries {
            let seen = ledger.running[0].clone();
            let step = ledger.take_over(&plan, &seen, &format!("owner {attempt}"));
            assert_eq!(step.lost, Some(seen));
            assert!(!ledger.beat(&run) && !ledger.end(&plan, &run, Ended::Ok), "it is another one's now");
            run = step.begin.unwrap();
            assert_eq!((run.tick, run.attempt), (Tick(1_001), attempt + 1));
        }
        let seen = ledger.running[0].clone();
        let step = ledger.take_over(&plan, &seen, "last");
        assert_eq!((step.begin, step.lost), (None, Some(seen)));
        let Totals { begun, lost, .. } = ledger.totals;
        assert_eq!((begun, lost, ledger.running.len()), (u64::from(retries) + 1, u64::from(retries) + 1, 0));
    }
}

#[test]
fn a_run_that_is_stopped_waits_to_be_begun_again() {
    let plan = Plan { retries: 1, ..plan("* * * * * *") };
    let mut ledger = ledger(&plan);
    let run = ledger.decide(&plan, Tick(1_001), "first").begin.unwrap();
    assert!(ledger.end(&plan, &run, Ended::Lost));
    let waiting = ledger.running[0].clone();
    assert_eq!((waiting.owner.as_str(), ledger.totals.lost), ("", 1));
    let step = ledger.take_over(&plan, &waiting, "second");
    assert_eq!((step.begin.map(|run| run.attempt), step.lost, ledger.totals.lost), (Some(2), None, 1));
    let last = ledger.running[0].clone();
    assert!(ledger.end(&plan, &last, Ended::Lost));
    assert_eq!((ledger.running.len(), ledger.totals.lost, ledger.totals.begun), (0, 2, 2));
}
