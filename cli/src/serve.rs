//! `tuntrail serve`: the reference log server until it is stopped.

use std::{net::SocketAddr, path::PathBuf};

use tuntrail_logserver::{Database, Server, ServerConfig};

use crate::{CommandError, stop::StopSignal};

/// Run the reference log server.
///
/// It accepts what tuntrail uploads (POST /c/COLLECTION/PRIVATE-ID), stores each record once, and answers
/// GET /c/COLLECTION and GET /collections. It is for a desk, not for the Internet: no TLS, no accounts.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8765")]
    listen: SocketAddr,
    /// Keep the records in this SQLite file; without it they are kept in memory until the server stops.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Let clients provoke protocol failures through /debug/faults (for tests).
    #[arg(long)]
    faults: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let stop = StopSignal::catch()?;
    let database = arguments.database.clone().map_or(Database::Memory, Database::File);
    let mut server = Server::start(ServerConfig {
        listen: arguments.listen,
        database,
        fault_endpoint: arguments.faults,
        ..ServerConfig::default()
    })?;
    println!("listening on {}", server.base_url());
    println!("records: GET {}/c/COLLECTION", server.base_url());
    stop.wait();
    let stats = server.stats();
    server.stop();
    println!("{} requests, {} records stored, {} duplicates", stats.requests, stats.stored, stats.duplicates);
    Ok(())
}
