//! The component's configuration: the text of `tollgate.toml`, from the variable `TOLLGATE_CONFIG` (our own host) or
//! from the file `/tollgate.toml` (mounted by Spin), else the built-in defaults.

use std::sync::OnceLock;
use tollgate_core::config::Config;

/// Read once per instance. A text that does not validate ends the instance; see [`refuse`].
pub fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let (text, name) = match std::env::var("TOLLGATE_CONFIG") {
            Ok(text) => (text, "TOLLGATE_CONFIG"),
            Err(_) => (
                std::fs::read_to_string("/tollgate.toml").unwrap_or_default(),
                "/tollgate.toml",
            ),
        };
        if text.is_empty() {
            return Config::default();
        }
        Config::parse(&text, name).unwrap_or_else(|error| refuse(&error))
    })
}

/// Ends this instance with a message: an instance never runs on guessed settings. (Our own host validates the
/// configuration before it starts any; under Spin this is where a mistake shows.)
pub fn refuse(error: &dyn std::fmt::Display) -> ! {
    eprintln!("tollgate: {error}");
    std::process::exit(1)
}
