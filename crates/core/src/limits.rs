//! Every limit of the product, in one place, unit in the name. Each is tested at its edge.

/// Names of backups and instances, in characters (contract section 1).
pub const NAME_LENGTH_CHARS_MIN: usize = 4;
pub const NAME_LENGTH_CHARS_MAX: usize = 64;
/// Descriptions, in Unicode scalar values (contract section 1).
pub const DESCRIPTION_LENGTH_CHARS_MAX: usize = 256;
/// Ids on input (contract section 1).
pub const ID_LENGTH_CHARS_MAX: usize = 64;

/// Rows of one page of a v3 list (contract sections 3.10 and 3.20).
pub const LIST_ROWS_MAX: u64 = 100;

/// Rows of one page of a list of tasks (contract section 3.19).
pub const TASK_ROWS_MAX: u64 = 50;
/// Tasks of an instance that are told at once, the newest ones.
pub const INSTANCE_TASKS_MAX: u32 = 100;
/// Backups that one call may delete (contract section 3.12).
pub const DELETE_IDS_MAX: usize = 50;
/// Tags of one instance; their keys and values, in Unicode scalar values (contract section 3.21).
pub const TAGS_MAX: usize = 20;
pub const TAG_KEY_CHARS_MAX: usize = 128;
pub const TAG_VALUE_CHARS_MAX: usize = 255;
/// Rooms that a new instance may be asked to have, in GB (contract section 3.5).
pub const VOLUME_GB_MIN: u64 = 40;
pub const VOLUME_GB_MAX: u64 = 4_000;
/// Passwords of instances that are asked for (contract section 3.16).
pub const INSTANCE_PASSWORD_CHARS_MIN: usize = 8;
pub const INSTANCE_PASSWORD_CHARS_MAX: usize = 32;

/// Request bodies (faults.md A07).
pub const BODY_SIZE_BYTES_MAX: usize = 64 * 1024;
/// All headers of one request together; tokens of other clouds are several KB.
pub const HEADERS_SIZE_BYTES_MAX: usize = 32 * 1024;
/// Time for a client to send its headers (faults.md A09).
pub const HEADER_READ_TIMEOUT_MS: u64 = 10_000;
/// Time for a client to send its body (faults.md A09).
pub const BODY_READ_TIMEOUT_MS: u64 = 30_000;
/// Time for a handler that does not stream.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// Connections served at once.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Open files that a server keeps for itself: catalog, repository, sources.
pub const FILES_BESIDE_CONNECTIONS: usize = 512;
/// Requests worked on at once; more wait.
pub const REQUESTS_MAX: usize = 256;
/// Of these, requests of one project; its others wait for them, and nobody else does (faults.md A25).
pub const REQUESTS_OF_PROJECT_MAX: usize = 16;
/// Contents of backups read at once, each by a thread of its own; more wait.
pub const STREAMS_MAX: usize = 64;
/// How long, and of how many, it is remembered whom a credential speaks for while nothing is written.
pub const BEARER_MEMORY_MS: i64 = 1_000;
pub const BEARERS_MAX: usize = 1_024;
/// A caller that takes nothing of its answer for so long is gone.
pub const STALLED_READER_TIMEOUT_MS: u64 = 60_000;

/// How long a claimed job belongs to its worker without a renewal (architecture section 4).
pub const LEASE_DURATION_MS: i64 = 30_000;
/// How often a worker on a shared catalog tells how far its jobs are, hears that one is to end, and
/// compares clocks. Never more seldom than a third of the lease.
pub const HEARTBEAT_INTERVAL_MS: u64 = 2_000;
/// How far the clock of a worker may be from that of the catalog's server, or jump against it,
/// before it takes no more work (faults.md T01).
pub const CLOCK_OFFSET_MS_MAX: i64 = 5_000;
/// Attempts of one backup job before it is FAILED.
pub const JOB_ATTEMPTS_MAX: u32 = 3;
/// Back-off before the second attempt; doubled for each one after.
pub const JOB_BACKOFF_BASE_MS: i64 = 2_000;
/// Time a stopping server waits for its jobs (interfaces section 2).
pub const DRAIN_TIMEOUT_MS: u64 = 30_000;

/// After something was deleted, and before the sweep that it asked for: so that many deletes are
/// followed by one sweep (an operator may set another, or none).
pub const SWEEP_DELAY_S: u64 = 60;
/// After a sweep that failed for something that passes, and before the next one.
pub const SWEEP_RETRY_S: u64 = 60 * 60;
/// Room that a sweep leaves free when it writes packs anew: a delete has to write as well.
pub const SWEEP_ROOM_KEPT_BYTES: u64 = 16 << 20;

/// Member paths inside a backup, in bytes.
pub const MEMBER_PATH_BYTES_MAX: usize = 4_096;
/// Members of one backup.
pub const MEMBERS_MAX: u64 = 16_000_000;
/// One member, in bytes (a PostgreSQL segment has 1 GiB; .bak files are larger).
pub const MEMBER_SIZE_BYTES_MAX: u64 = 16 << 40;

/// Room that the work files of a backup leave free on the disk of the data directory.
pub const WORK_FILE_ROOM_KEPT_BYTES: u64 = 128 << 20;

/// zstd levels that may be asked for; above, memory grows and nothing is gained on 128 KiB.
pub const COMPRESSION_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// Silence of a source connection after which it is given up (faults.md B21).
pub const SOURCE_IDLE_TIMEOUT_MS: u64 = 120_000;
/// Silence of ours after which a source lets go of the log that it keeps for a backup. A worker that
/// is frozen must not fill the disk of a source; one that waits for a slow repository is not dead.
pub const SOURCE_SLOT_RELEASE_TIMEOUT_MS: u64 = 90_000;
/// Below are the ports of mail, shells and the web, and of no database (faults.md A18).
pub const SOURCE_PORT_MIN: u16 = 1024;
/// Reaching a source and logging in (faults.md B11, S17).
pub const SOURCE_CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Tables that no clone carries and that are read beside one: how long one may keep its writers waiting, the
/// largest row, which becomes twice as long in a statement, and the file with all of them.
pub const OTHER_TABLE_TIMEOUT_MS: u64 = 30_000;
pub const OTHER_TABLE_ROW_BYTES_MAX: usize = 4 << 20;
pub const OTHER_TABLES_BYTES_MAX: u64 = 16 << 30;

/// A whole drill: restore, start, checks (an operator may set another).
pub const DRILL_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Room that a drill leaves free besides what it restores: its server writes log and temporary files.
pub const DRILL_ROOM_MARGIN_BYTES: u64 = 256 << 20;
/// Findings of one drill that are told one by one.
pub const DRILL_FINDINGS_MAX: usize = 50;
/// The largest tables that a drill tells by name.
pub const DRILL_TABLES_TOLD_MAX: usize = 100;

/// How long a log-in lasts; clients log in again by themselves.
pub const SESSION_LIFE_S: i64 = 24 * 60 * 60;
/// How long a download link is good for.
pub const DOWNLOAD_LINK_LIFE_S: i64 = 60 * 60;
/// Passwords, in characters. The longest is far below the limit of a body.
pub const PASSWORD_LENGTH_CHARS_MIN: usize = 8;
pub const PASSWORD_LENGTH_CHARS_MAX: usize = 256;
/// Memory that one password's hash takes, in KiB, and how often it is filled (argon2id).
pub const PASSWORD_HASH_MEMORY_KIB: u32 = 19 * 1024;
pub const PASSWORD_HASH_PASSES: u32 = 2;
/// Passwords hashed at once, and waiting for it; more are told to come again (faults.md A23).
pub const PASSWORD_HASHES_MAX: usize = 2;
pub const PASSWORD_HASHES_WAITING_MAX: usize = 32;
/// Wrong passwords for one account from one source before it has to wait.
pub const PAIR_FAILURES_FREE: u32 = 5;
/// Wrong passwords from one source, for whatever account, before it has to wait.
pub const SOURCE_FAILURES_FREE: u32 = 50;
/// Wrong passwords for one account, from whatever source, before strangers to it have to wait.
pub const ACCOUNT_FAILURES_FREE: u32 = 100;
/// The longest wait of a pair or a source, and that of an account: its owner may be among them.
pub const GUESS_WAIT_S_MAX: i64 = 900;
pub const ACCOUNT_WAIT_S_MAX: i64 = 30;
/// A count of wrong passwords is forgotten so long after the last one.
pub const GUESS_MEMORY_S: i64 = 3_600;
/// Counts of wrong passwords that are remembered; the oldest go first.
pub const GUESS_COUNTS_MAX: usize = 10_000;
/// How far the date of a signed request may be from now (contract of the signatures).
pub const SIGNATURE_SKEW_S_MAX: i64 = 900;
/// Refusals of callers are told to the audit chain once for each kind and source in so long.
pub const REFUSAL_WINDOW_S: i64 = 60;
/// Sources of refusals that are told apart in a window; those beyond are counted together.
pub const REFUSAL_SOURCES_MAX: usize = 64;

/// Names of streams of log.
pub const LOG_STREAM_NAME_BYTES_MAX: usize = 64;
/// Log that has gathered, or has waited for so long, is made durable.
pub const LOG_PART_BYTES_MAX: usize = 16 << 20;
pub const LOG_PART_WAIT_MS: u64 = 5_000;
/// So many parts of a file of log, one behind the other, become one.
pub const LOG_PARTS_MERGED: usize = 16;

/// Captures of logs that a worker holds at once; each may have a part of a log in memory.
pub const LOG_CAPTURES_MAX: usize = 16;
/// Log that a source may keep until it is stored, before it is let go (faults.md B08).
pub const LOG_RETAINED_BYTES_MAX: u64 = 8 << 30;
/// The longest pause before a capture that fails again and again is tried once more.
pub const LOG_PAUSE_MS_MAX: i64 = 5 * 60 * 1_000;
/// Where no backup leads to the log that is captured: how often one is looked for, and after one that
/// was begun for it, when the next one may be.
pub const LOG_BASE_LOOK_S: u64 = 10;
pub const LOG_BASE_PAUSE_S: i64 = 60 * 60;

/// Days that automated backups may be kept (contract 3.14).
pub const KEEP_DAYS_MAX: u16 = 732;
/// How often the scheduler looks for automated backups that are due.
pub const SCHEDULE_INTERVAL_MS: u64 = 2_000;
/// Automated backups that wait for a worker, of all projects and of one; more stay due, so that no
/// project's many instances stand before another's few (faults.md T04).
pub const AUTOMATED_WAITING_MAX: usize = 32;
pub const AUTOMATED_WAITING_OF_PROJECT_MAX: usize = 4;
/// What began in a future further away than this began by a clock that was wrong, and counts for nothing.
pub const SCHEDULE_CLOCK_STEP_S: i64 = 2 * 60 * 60;
/// How often backups are looked through for what is to go by a rule.
pub const RETENTION_INTERVAL_S: u64 = 10 * 60;
/// Backups of one instance that one look takes on to remove; the next look goes on.
pub const RETENTION_BATCH_MAX: usize = 50;
/// Nothing goes by a rule when the clock moved further than this by itself (faults.md T01), or when the
/// server was away for longer than that, which a wrong clock looks like.
pub const RETENTION_CLOCK_STEP_S: i64 = 10 * 60;
pub const RETENTION_ABSENCE_S: i64 = 7 * 24 * 60 * 60;
/// After a policy was shortened nothing more goes by it for so long: the change can be undone.
pub const RETENTION_GRACE_S: i64 = 60 * 60;
