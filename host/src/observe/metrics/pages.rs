//! The blocks of one worker in shared memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::block::{Block, WORDS};
use super::sums::Sums;
use crate::sys::sealed::shared;
use crate::sys::shared_words::{SharedWords, next_written};

/// The route that those over `max_metric_routes` share.
pub(super) const OTHER: &str = "other";

const BLOCK_BYTES: usize = WORDS * size_of::<AtomicU64>();

/// The blocks of requests without a route, and of the routes that share one.
const SHARED_BLOCKS: usize = 2;

/// What each block is about: first those of routes, then those of listeners and those of schedules. The first one of all
/// is that of requests without a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockNames {
    routes: Vec<String>,
    listeners: Vec<String>,
    schedules: Vec<String>,
}

/// How many of a worker's blocks are not those of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockCounts {
    pub(super) listeners: usize,
    pub(super) schedules: usize,
}

impl Default for BlockNames {
    /// The block of requests without a route only.
    fn default() -> Self {
        Self { routes: vec![String::new()], listeners: Vec::new(), schedules: Vec::new() }
    }
}

impl BlockNames {
    /// For routes in the order of the configuration: the first `max_routes` have a block each, further ones share one.
    pub(crate) fn new(
        routes: impl Iterator<Item = String>,
        max_routes: usize,
        mut listeners: Vec<String>,
        mut schedules: Vec<String>,
    ) -> Self {
        // The limit of file sizes (`ulimit -f`) holds for files in memory, too.
        let limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        let fits = (usize::try_from(limit).unwrap_or(usize::MAX) / BLOCK_BYTES).saturating_sub(SHARED_BLOCKS);
        // Those beyond count in the block of the last one.
        listeners.truncate(fits.max(1));
        schedules.truncate(fits.saturating_sub(listeners.len()));
        let max_routes = max_routes.min(fits.saturating_sub(listeners.len() + schedules.len()));
        let mut names = vec![String::new()];
        for route in routes {
            if names.len() > max_routes {
                names.push(OTHER.to_owned());
                break;
            }
            names.push(route);
        }
        Self { routes: names, listeners, schedules }
    }

    pub(crate) fn counts(&self) -> BlockCounts {
        BlockCounts { listeners: self.listeners.len(), schedules: self.schedules.len() }
    }

    /// The names of routes, of which the first one is empty.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(String::as_str)
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(String::as_str)
    }
}

/// A file for the blocks of one worker. Its pages take memory only once something was counted on them.
///
/// # Errors
///
/// When shared memory cannot be created.
pub(crate) fn create(names: &BlockNames) -> io::Result<OwnedFd> {
    let blocks = names.routes.len() + names.listeners.len() + names.schedules.len();
    shared("daylily-metrics", (blocks * BLOCK_BYTES) as u64)
}

/// The blocks of one worker in the memory of this process.
pub(super) struct Pages(SharedWords);

impl Pages {
    /// # Errors
    ///
    /// When the file has no size of blocks, or mmap(2) fails.
    pub(super) fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        let words = SharedWords::map(file)?;
        let (blocks, rest) = words.all().as_chunks::<WORDS>();
        if blocks.is_empty() || !rest.is_empty() {
            return Err(io::Error::other("the file has no size of metrics"));
        }
        Ok(Self(words))
    }

    #[inline]
    pub(super) fn blocks(&self) -> &[[AtomicU64; WORDS]] {
        self.0.all().as_chunks().0
    }
}

/// The blocks of one worker, for a process that reports them.
pub(crate) struct MetricsReader {
    file: OwnedFd,
    pages: Pages,
    names: BlockNames,
}

impl MetricsReader {
    /// # Errors
    ///
    /// When the file has no blocks or cannot be mapped, or the process has no descriptor left.
    pub(crate) fn open(file: BorrowedFd<'_>, names: BlockNames) -> io::Result<Self> {
        Ok(Self { file: file.try_clone_to_owned()?, pages: Pages::map(file)?, names })
    }

    /// Those of the blocks that may have been written to. The others are not read, because that would take memory.
    fn used(&self) -> Vec<Option<Block<'_>>> {
        let blocks = self.pages.blocks();
        let mut used = vec![None; blocks.len()];
        let mut at = 0;
        while let Some(written) = next_written(self.file.as_fd(), at) {
            let place = |byte: u64| usize::try_from(byte).unwrap_or(usize::MAX) / BLOCK_BYTES;
            let places = place(written.start)..=place(written.end - 1).min(blocks.len() - 1);
            for (used, block) in used.iter_mut().zip(blocks).skip(*places.start()).take(places.count()) {
                *used = Some(Block(block));
            }
            at = written.end;
        }
        used
    }

    /// The names of the routes that have a block.
    pub(crate) fn route_names(&self) -> impl Iterator<Item = &str> {
        self.names.routes()
    }

    /// The blocks of routes that may have had a request, with the names of these.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&str, Block<'_>)> {
        self.names.routes().zip(self.used()).filter_map(|(name, block)| Some((name, block?)))
    }

    /// The names of the listeners.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &str> {
        self.names.listeners()
    }

    /// The names of the schedules.
    pub(crate) fn schedules(&self) -> impl Iterator<Item = &str> {
        self.names.schedules.iter().map(String::as_str)
    }

    /// The block of requests without a route, which has the numbers of the whole worker.
    pub(crate) fn worker(&self) -> Option<Block<'_>> {
        self.pages.blocks().first().map(Block)
    }

    /// What the worker has counted up to now.
    pub(crate) fn sums(&self) -> Sums {
        let used = self.used();
        let (routes, rest) = used.split_at_checked(self.names.routes.len()).unwrap_or((&used, &[]));
        let (listeners, schedules) = rest.split_at_checked(self.names.listeners.len()).unwrap_or((rest, &[]));
        let sum = |(name, block): (&str, &Option<Block<'_>>)| Some((name.to_owned(), (*block)?.snapshot()));
        let routes = self.route_names().zip(routes).filter_map(sum);
        let sums = Sums::of(routes, self.listeners().zip(listeners).filter_map(sum));
        sums.with_schedules(self.schedules().zip(schedules).filter_map(sum))
    }

    /// What the worker has counted, once it has ended.
    pub(crate) fn sums_at_death(&self) -> Sums {
        self.sums().at_death()
    }
}
