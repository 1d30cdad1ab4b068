//! Checks that the rules of several settings share.

use crate::config::{Fault, Path};

pub(super) type Checked = Result<(), Fault>;

pub(super) fn ensure(holds: bool, path: Path, message: &str) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Fault::new(path, message))
    }
}

pub(super) fn within<T: PartialOrd + std::fmt::Display>(
    value: T,
    (least, most): (T, T),
    path: Path,
) -> Checked {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Fault::new(path, format!("must be from {least} to {most}")))
}

pub(super) fn at_most(count: usize, most: usize, path: &Path) -> Checked {
    if count <= most {
        Ok(())
    } else {
        Err(Fault::new(
            path.clone(),
            format!("must have at most {most} entries"),
        ))
    }
}

/// The name of a file, whether it is there or not.
pub(super) fn file(name: &str, path: Path) -> Checked {
    let file = !name.is_empty()
        && !name.contains('\0')
        && !name.ends_with('/')
        && std::path::Path::new(name).file_name().is_some();
    ensure(file, path, "must be the name of a file")
}
