//! The daemon's allocator, for whatever measures time or memory.

/// A tenth of what a request to the inbox costs is spent in it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
