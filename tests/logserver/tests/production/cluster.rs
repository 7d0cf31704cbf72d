//! A PostgreSQL of the tests' own, in a folder of its own.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tuntrail_logserver::PostgresUrl;

use crate::program::{OtherUser, Program, command_as, find, open_folder, run, skip};

/// The superuser of the clusters. Over the Unix socket everybody is believed to be who they say they are.
pub(crate) const OWNER: &str = "owner";
/// What a cluster on TCP wants to hear from [`OWNER`].
pub(crate) const PASSWORD: &str = "s3cret/with:signs@in?it";

/// A running PostgreSQL, unless a test has stopped it.
pub(crate) struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    user: Option<OtherUser>,
    arguments: Vec<String>,
    port: u16,
    program: Mutex<Option<Program>>,
    databases: AtomicU32,
}

impl Cluster {
    /// The cluster that tests share as long as one of them has it; `None` if there is no PostgreSQL, which has been said
    /// then.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return Some(cluster);
        }
        let cluster = Arc::new(Self::own(&[])?);
        *shared = Arc::downgrade(&cluster);
        Some(cluster)
    }

    /// A cluster for one test, with further arguments for the server.
    pub(crate) fn own(arguments: &[&str]) -> Option<Self> {
        Self::make(arguments, None, &[])
    }

    /// The same, with TLS on a loopback port, and files in its data folder that only PostgreSQL may read.
    pub(crate) fn on_port(port: u16, files: &[(&str, Vec<u8>)]) -> Option<Self> {
        let arguments = ["-clisten_addresses=localhost", &format!("-cport={port}"), "-cssl=on"];
        Self::make(&arguments, Some(port), files)
    }

    fn make(arguments: &[&str], port: Option<u16>, files: &[(&str, Vec<u8>)]) -> Option<Self> {
        let Some(bin) = programs() else {
            skip("PostgreSQL", "postgresql");
            return None;
        };
        let (folder, user) = (open_folder(), OtherUser::if_root());
        let password = folder.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        if let Some(user) = &user {
            user.own(folder.path());
            user.own(&password);
        }
        run(command_as(user.as_ref(), &bin.join("initdb"))
            .current_dir(folder.path())
            .args(["--pgdata=data", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .args([&format!("--username={OWNER}"), "--pwfile=password"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"]));
        for (name, content) in files {
            let path = folder.path().join("data").join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            if let Some(user) = &user {
                user.own(&path);
            }
        }
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let databases = AtomicU32::new(0);
        let port = port.unwrap_or(5432);
        let cluster = Self { folder, bin, user, arguments, port, program: Mutex::default(), databases };
        cluster.start();
        Some(cluster)
    }

    pub(crate) fn start(&self) {
        let socket = format!("-cunix_socket_directories={}", self.folder.path().display());
        let program = Program::start(
            command_as(self.user.as_ref(), &self.bin.join("postgres"))
                .current_dir(self.folder.path())
                // No test is about power loss, and without these it takes half as long.
                .args(["-D", "data", "-cfsync=off", "-cfull_page_writes=off", &socket])
                .args(["-clisten_addresses=", "-clog_statement=all"])
                .args(&self.arguments),
        );
        program.wait_for("database system is ready to accept connections");
        *self.program.lock().unwrap() = Some(program);
    }

    /// Ends it as `pg_ctl stop -m fast` does: connections are closed, what was committed stays.
    pub(crate) fn stop(&self) {
        let mut program = self.program.lock().unwrap().take().unwrap();
        assert!(program.stop(Signal::INT).success(), "{}", program.output());
    }

    /// A new, empty database.
    pub(crate) fn create(&self, options: &str) -> String {
        let name = format!("logs{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} {options}"));
        name
    }

    /// The address of a database over the Unix socket.
    pub(crate) fn url(&self, database: &str) -> PostgresUrl {
        self.url_of(OWNER, database)
    }

    pub(crate) fn url_of(&self, user: &str, database: &str) -> PostgresUrl {
        let text = format!("postgres://{user}@/{database}?host={}", self.folder.path().display());
        text.parse().unwrap()
    }

    /// Does what the SQL says; returns the rows, null as an empty text.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Vec<Vec<String>> {
        let (runtime, client) = self.connect(database);
        let messages =
            runtime.block_on(client.simple_query(sql)).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect(),
                ),
                _ => None,
            })
            .collect()
    }

    /// A connection that stays as long as both values live, for tests that hold locks.
    pub(crate) fn connect(&self, database: &str) -> (tokio::runtime::Runtime, Client) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.folder.path()).port(self.port).user(OWNER).dbname(database);
        let (client, connection) = runtime.block_on(config.connect(NoTls)).unwrap();
        runtime.spawn(connection);
        (runtime, client)
    }

    /// All that the server has logged, every statement with its values among it.
    pub(crate) fn log(&self) -> String {
        self.program.lock().unwrap().as_ref().map(Program::output).unwrap_or_default()
    }

    /// Waits until the server logs a new line with `text` in it.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.program.lock().unwrap().as_ref().unwrap().wait_for(text);
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The folder of PostgreSQL's programs: in `PATH`, or the newest of Debian's.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    folders.sort();
    folders.reverse();
    find("initdb", &folders).and_then(|path| path.parent().map(PathBuf::from))
}
