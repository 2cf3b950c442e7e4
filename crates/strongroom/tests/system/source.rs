//! The database that is backed up in the stories.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom_testkit::line;
use strongroom_testkit::postgres::{Options, PostgresServer};

use crate::room::{Room, pause};

pub(crate) const VERSION: u32 = 15;
pub(crate) const ROLE: &str = "keeper";
pub(crate) const PASSWORD: &str = "s3cret that must not be seen";

/// Within this a source has let go of what a backup held.
const RELEASED: Duration = Duration::from_mins(2);

pub(crate) struct Source {
    pub(crate) server: PostgresServer,
}

/// What all tables hold, in any order of rows.
pub(crate) fn digest(server: &PostgresServer) -> String {
    let query = "select string_agg(n || ' ' || h, ', ' order by t) from (
        select 'a' t, count(*) n, coalesce(sum(hashtextextended(a::text, 1)::numeric), 0) h from accounts a
        union all select 'b', count(*), coalesce(sum(hashtextextended(b::text, 1)::numeric), 0) from bookings b) x";
    server.psql("postgres", query).unwrap()
}

impl Source {
    /// About `megabytes` in two tables.
    pub(crate) fn filled(megabytes: u32) -> Self {
        Self::of_version(VERSION, megabytes)
    }

    pub(crate) fn of_version(version: u32, megabytes: u32) -> Self {
        Self::with_options(version, megabytes, &Options::default())
    }

    pub(crate) fn with_options(version: u32, megabytes: u32, options: &Options) -> Self {
        let server = PostgresServer::start(version, options).unwrap();
        server
            .psql("postgres", &format!("create role {ROLE} login replication password '{PASSWORD}'"))
            .unwrap();
        let rows = megabytes * 6_000;
        let fill = format!(
            "create table accounts as select i as id, md5(i::text) as owner, 0 as amount from generate_series(1, {rows}) i;
             create table bookings as select i as id, md5((i * 7)::text) as what from generate_series(1, {rows}) i;"
        );
        server.psql("postgres", &fill).unwrap();
        server.psql("postgres", "alter table accounts add primary key (id)").unwrap();
        server.psql("postgres", "checkpoint").unwrap();
        Self { server }
    }

    pub(crate) fn change(&self, percent: u32) {
        let update = format!(
            "update accounts set amount = amount + 1 where hashint4(id) % 100 between 0 and {}",
            percent.max(1) - 1
        );
        self.server.psql("postgres", &update).unwrap();
    }

    /// The command that registers it.
    pub(crate) fn register(&self, room: &Room) -> serde_json::Value {
        self.register_as(room, "shop")
    }

    pub(crate) fn register_as(&self, room: &Room, name: &str) -> serde_json::Value {
        register_at(room, name, self.server.port())
    }

    /// Registers it behind a slow line: a backup of it takes long enough to be interrupted.
    pub(crate) fn register_slow(&self, room: &Room, name: &str, bytes_per_s: u64) {
        register_at(room, name, slow_line(self.server.port(), bytes_per_s));
    }

    /// Slots and replication sessions that are open at this moment.
    pub(crate) fn sessions(&self) -> u32 {
        let query =
            "select (select count(*) from pg_replication_slots) + (select count(*) from pg_stat_replication)";
        self.server.psql("postgres", query).unwrap().parse().unwrap()
    }

    /// Replication slots of ours.
    pub(crate) fn slots(&self) -> u32 {
        self.server.psql("postgres", "select count(*) from pg_replication_slots").unwrap().parse().unwrap()
    }

    /// No slot and no backup session of ours is left.
    #[track_caller]
    pub(crate) fn is_released(&self) {
        let begun = Instant::now();
        while self.sessions() != 0 {
            assert!(begun.elapsed() < RELEASED, "after {RELEASED:?} the source still has {}", self.held());
            pause(Duration::from_millis(20));
        }
    }

    /// What is open, for people who look for the reason.
    fn held(&self) -> String {
        let query = "select 'slot ' || s::text from pg_replication_slots s
            union all select 'session ' || a::text from pg_stat_activity a where backend_type = 'walsender'
            union all select 'replication ' || r::text from pg_stat_replication r";
        self.server.psql("postgres", query).unwrap()
    }
}

fn register_at(room: &Room, name: &str, port: u16) -> serde_json::Value {
    let file = room.scratch.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let (port, file) = (port.to_string(), file.display().to_string());
    room.json(&[
        "instance",
        "add",
        name,
        "--engine",
        "postgresql",
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--user",
        ROLE,
        "--tls",
        "disable",
        "--password-file",
        &file,
    ])
}

/// Passes connections on to a port of loopback; what comes back from there passes slowly. It lives as
/// long as the test's process.
pub(crate) fn slow_line(to: u16, bytes_per_s: u64) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                pass_on(&from_client, &to_server, None);
                line::end(&from_client, &to_server);
            });
            std::thread::spawn(move || {
                pass_on(&server, &client, Some(bytes_per_s));
                line::end(&client, &server);
            });
        }
    });
    port
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, bytes_per_s: Option<u64>) {
    let mut piece = vec![0; 32 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
        if let Some(rate) = bytes_per_s {
            pause(Duration::from_micros(length as u64 * 1_000_000 / rate));
        }
    }
}

/// Restores and compares: the proof that a backup is what COMPLETED says.
#[track_caller]
pub(crate) fn restores_to(room: &Room, backup: &str, wanted: &str) {
    let target = room.scratch.path().join(format!("restored-{backup}"));
    restore(room, backup, &target).expect(0);
    let restored = PostgresServer::adopt(VERSION, &target).unwrap();
    assert_eq!(digest(&restored), wanted, "{backup}");
    drop(restored);
    std::fs::remove_dir_all(&target).unwrap();
}

pub(crate) fn restore(room: &Room, backup: &str, target: &Path) -> crate::room::Done {
    room.run(&["restore", backup, "--progress", "none", "--to-dir", &target.display().to_string()])
}
