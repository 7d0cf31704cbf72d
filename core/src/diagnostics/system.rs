//! The log of the operating system: logcat on Android, the unified log on Apple's systems, nothing elsewhere.
//!
//! These take a text per event on the thread that logs; both copy it and return.

use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

/// The layer for this system.
pub(super) fn layer<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    #[cfg(target_os = "android")]
    return logger::LogLayer::new(android_logger::AndroidLogger::new(
        android_logger::Config::default().with_tag(NAME).with_max_level(log::LevelFilter::Trace),
    ));
    #[cfg(target_vendor = "apple")]
    return logger::LogLayer::new(oslog::OsLogger::new(NAME));
    #[cfg(not(any(target_os = "android", target_vendor = "apple")))]
    tracing_subscriber::layer::Identity::new()
}

/// The tag in logcat, the subsystem in the unified log.
#[cfg(any(target_os = "android", target_vendor = "apple"))]
const NAME: &str = "tuntrail";

#[cfg(any(target_os = "android", target_vendor = "apple"))]
mod logger {
    use std::fmt::{self, Write as _};

    use tracing::{
        Event, Level, Subscriber,
        field::{Field, Visit},
    };
    use tracing_subscriber::{Layer, layer::Context};

    /// Passes events to a logger of the `log` crate.
    pub(super) struct LogLayer<L>(L);

    impl<L: log::Log> LogLayer<L> {
        pub(super) const fn new(logger: L) -> Self {
            Self(logger)
        }
    }

    impl<S: Subscriber, L: log::Log + 'static> Layer<S> for LogLayer<L> {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            let level = match *event.metadata().level() {
                Level::ERROR => log::Level::Error,
                Level::WARN => log::Level::Warn,
                Level::INFO => log::Level::Info,
                Level::DEBUG => log::Level::Debug,
                Level::TRACE => log::Level::Trace,
            };
            let metadata = event.metadata();
            self.0.log(
                &log::Record::builder()
                    .level(level)
                    .target(metadata.target())
                    .args(format_args!("{}", text.0))
                    .build(),
            );
        }
    }

    /// `message name=value …`
    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            // Writing to a string can't fail.
            let _ = match field.name() {
                "message" => write!(self.0, "{value:?}"),
                name => write!(self.0, " {name}={value:?}"),
            };
        }
    }
}
