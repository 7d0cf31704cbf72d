//! `tuntrail serve`: the reference log server until it is stopped.

use std::{fmt, fs, net::SocketAddr, path::PathBuf};

use thiserror::Error;
use tuntrail_logserver::{Database, PostgresUrl, PostgresUrlError, Server, ServerConfig};

use crate::{CommandError, stop::StopSignal};

/// Run the reference log server.
///
/// It accepts what tuntrail uploads (POST /c/COLLECTION/PRIVATE-ID), stores each record once, and answers
/// GET /c/COLLECTION, GET /collections and GET /health. It has no TLS and no accounts: on the Internet it belongs behind a
/// proxy, see docs/collector.md. Uploads of more than 1 MiB, before or after decompression, or more than 16,384 records are
/// refused. It stops on SIGTERM and SIGINT, after the uploads that have arrived are stored.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8765")]
    listen: SocketAddr,
    /// Keep the records here: a file name (SQLite), postgres:///DATABASE for PostgreSQL on this machine, or
    /// postgres://USER@HOST/DATABASE, with TLS, on another. Without it they are kept in memory until the server stops.
    #[arg(long, value_name = "FILE|URL", value_parser = |text: &str| Ok::<_, std::convert::Infallible>(Location(text.to_owned())))]
    database: Option<Location>,
    /// Read the password for PostgreSQL from the first line of this file. A password in the URL works, too, but everybody
    /// on the machine can see the arguments of a program.
    #[arg(long, value_name = "FILE", requires = "database")]
    database_password_file: Option<PathBuf>,
    /// Trust only PostgreSQL servers whose certificate leads to a root in this PEM file; else those that the system
    /// trusts.
    #[arg(long, value_name = "FILE", requires = "database")]
    database_ca: Option<PathBuf>,
    /// Let clients provoke protocol failures through /debug/faults (for tests).
    #[arg(long)]
    faults: bool,
}

/// Where the database is, as it was written. There may be a password in it, so it is never shown.
#[derive(Clone)]
struct Location(String);

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Location(…)")
    }
}

/// What is wrong with the arguments that say where the database is.
#[derive(Debug, Error)]
enum LocationError {
    #[error("--database: {0}")]
    Url(#[source] PostgresUrlError),
    #[error("--database-ca: {0}")]
    Certificates(#[source] PostgresUrlError),
    #[error("{option} is for PostgreSQL; --database names a file")]
    NotPostgres { option: &'static str },
    #[error("cannot read {option} {}: {source}", path.display())]
    File { option: &'static str, path: PathBuf, source: std::io::Error },
    #[error("--database-password-file {}: the first line is empty", path.display())]
    NoPassword { path: PathBuf },
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let stop = StopSignal::catch()?;
    let mut server = Server::start(ServerConfig {
        listen: arguments.listen,
        database: database(arguments)?,
        fault_endpoint: arguments.faults,
        ..ServerConfig::default()
    })?;
    println!("listening on {}", server.base_url());
    println!("records: GET {}/c/COLLECTION", server.base_url());
    stop.wait();
    let address = server.local_addr();
    server.stop();
    let stats = server.stats();
    println!(
        "{address} closed: {} requests, {} records stored, {} duplicates",
        stats.requests, stats.stored, stats.duplicates
    );
    Ok(())
}

fn database(arguments: &Arguments) -> Result<Database, LocationError> {
    let Some(Location(text)) = &arguments.database else { return Ok(Database::Memory) };
    if !PostgresUrl::looks_like_one(text) {
        let options = [
            (arguments.database_password_file.is_some(), "--database-password-file"),
            (arguments.database_ca.is_some(), "--database-ca"),
        ];
        return match options.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(LocationError::NotPostgres { option }),
            None => Ok(Database::File(text.into())),
        };
    }
    let read = |option, path: &PathBuf| {
        fs::read(path).map_err(|source| LocationError::File { option, path: path.clone(), source })
    };
    let mut url: PostgresUrl = text.parse().map_err(LocationError::Url)?;
    if let Some(path) = &arguments.database_password_file {
        let content = read("--database-password-file", path)?;
        let text = String::from_utf8_lossy(&content);
        let password = text.lines().next().filter(|line| !line.is_empty());
        url = url.with_password(password.ok_or_else(|| LocationError::NoPassword { path: path.clone() })?);
    }
    if let Some(path) = &arguments.database_ca {
        let pem = read("--database-ca", path)?;
        url = url.with_root_certificates(&pem).map_err(LocationError::Certificates)?;
    }
    Ok(Database::Postgres(url))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        serve: Arguments,
    }

    #[test]
    fn a_file_a_url_or_nothing_say_where_the_records_are() {
        assert_eq!(database(&arguments(&[])).unwrap(), Database::Memory);
        assert_eq!(
            database(&arguments(&["--database", "logs.sqlite"])).unwrap(),
            Database::File("logs.sqlite".into())
        );
        for url in ["postgres:///logs", "postgresql://me@localhost:5433/logs"] {
            let found = database(&arguments(&["--database", url])).unwrap();
            assert_eq!(found, Database::Postgres(url.parse().unwrap()));
        }
    }

    #[test]
    fn the_password_comes_from_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let path = file.to_str().unwrap();
        let given = |database: &str| arguments(&["--database", database, "--database-password-file", path]);
        fs::write(&file, "s3cret@1\r\nsecond line\n").unwrap();
        let expected: PostgresUrl = "postgres://me:s3cret%401@db/logs".parse().unwrap();
        assert_eq!(database(&given("postgres://me@db/logs")).unwrap(), Database::Postgres(expected));
        assert!(matches!(database(&given("logs.sqlite")), Err(LocationError::NotPostgres { .. })));
        fs::write(&file, "\n").unwrap();
        assert!(matches!(database(&given("postgres://me@db/logs")), Err(LocationError::NoPassword { .. })));
        fs::remove_file(&file).unwrap();
        let error = database(&given("postgres://me@db/logs")).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }

    #[test]
    fn a_password_is_in_no_message_whatever_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        fs::write(&file, "no certificate").unwrap();
        let lines: [&[&str]; 5] = [
            &["--database", "postgres://me:s3cret@db:port/logs"],
            &["--database", "postgres://me:s3cret@db/logs?s3cret=1"],
            &["--database", "postgres://me:s3cret@db/logs", "--database-ca", file.to_str().unwrap()],
            &["--database", "postgres://me:s3cret@db/logs", "--unknown"],
            &["--database", "postgres://me:s3cret@db/logs", "--database", "x"],
        ];
        for line in lines {
            let text = match Command::try_parse_from([&["serve"], line].concat()) {
                Ok(command) => format!("{} {command:?}", database(&command.serve).unwrap_err()),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    fn arguments(line: &[&str]) -> Arguments {
        Command::try_parse_from([&["serve"], line].concat()).unwrap().serve
    }
}
