//! What happens to the server during the load.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::server::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Reload,
    /// A worker gets SIGKILL.
    Kill,
    Upgrade,
}

/// Events, and when they begin.
pub(super) struct Events {
    events: Vec<(Duration, Event)>,
    time: Duration,
}

/// How often each event happens in 300 seconds.
const REFERENCE: Duration = Duration::from_secs(300);
const RELOADS: u32 = 20;
const KILLS: u32 = 20;
const UPGRADES: u32 = 3;

impl Events {
    /// Those of a first third of `time`, in which no worker is killed, and those of the rest. Each has every event that
    /// may happen in it at least once.
    pub(super) fn within(time: Duration) -> (Self, Self) {
        let scaled = |count: u32| (f64::from(count) * time.as_secs_f64() / REFERENCE.as_secs_f64()).round() as u32;
        let calm = |count| (scaled(count) / 3).max(1);
        let rough = |count| scaled(count).saturating_sub(calm(count)).max(1);
        let calm = [(Event::Reload, calm(RELOADS)), (Event::Upgrade, calm(UPGRADES))];
        let rough =
            [(Event::Reload, rough(RELOADS)), (Event::Kill, scaled(KILLS).max(1)), (Event::Upgrade, rough(UPGRADES))];
        (Self::spread(time / 3, &calm), Self::spread(time - time / 3, &rough))
    }

    /// Each kind of event in equal intervals. Those that fall together happen one right after the other.
    fn spread(time: Duration, counts: &[(Event, u32)]) -> Self {
        let mut events = Vec::new();
        for (shift, &(event, count)) in (1..).zip(counts) {
            let interval = time / count;
            events.extend((0..count).map(|number| (interval * number + interval * shift / 4, event)));
        }
        events.sort_by_key(|(at, _)| *at);
        Self { events, time }
    }

    pub(super) fn kills(&self) -> usize {
        self.count(Event::Kill)
    }

    fn count(&self, event: Event) -> usize {
        self.events.iter().filter(|(_, of)| *of == event).count()
    }

    pub(super) fn describe(&self) -> String {
        let [reloads, kills, upgrades] = [Event::Reload, Event::Kill, Event::Upgrade].map(|event| self.count(event));
        format!("{reloads} reloads, {kills} killed workers, {upgrades} upgrades in {:?}", self.time)
    }

    /// Makes them happen, one after the other, and returns when the time is over.
    pub(super) fn run(&self, server: &mut Server) -> Result<()> {
        let begun = Instant::now();
        for (number, (at, event)) in self.events.iter().enumerate() {
            thread::sleep(at.saturating_sub(begun.elapsed()));
            let done = match event {
                Event::Reload => server.reload(),
                Event::Kill => server.kill_worker(number),
                Event::Upgrade => server.upgrade(),
            };
            done.with_context(|| format!("{event:?} after {:?}", begun.elapsed()))?;
        }
        thread::sleep(self.time.saturating_sub(begun.elapsed()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Events;
    use std::time::Duration;

    #[test]
    fn events_are_as_frequent_as_the_time_is_long() {
        let described = |seconds| {
            let (calm, rough) = Events::within(Duration::from_secs(seconds));
            [calm.describe(), rough.describe()]
        };
        assert_eq!(
            described(300),
            ["6 reloads, 0 killed workers, 1 upgrades in 100s", "14 reloads, 20 killed workers, 2 upgrades in 200s"]
        );
        assert_eq!(
            described(30),
            ["1 reloads, 0 killed workers, 1 upgrades in 10s", "1 reloads, 2 killed workers, 1 upgrades in 20s"]
        );
        let (calm, rough) = Events::within(Duration::from_secs(30));
        for events in [calm, rough] {
            assert!(events.events.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{:?}", events.events);
            assert!(events.events.iter().all(|(at, _)| *at < events.time));
        }
    }
}
