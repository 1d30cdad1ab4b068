//! The VFS itself: SQLite's interface in C, passed on to the system's VFS.
#![allow(unsafe_code, reason = "SQLite calls a VFS through pointers")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi;

use crate::Drive;

/// The files whose contents count. Others (temporary ones) do not outlive a power cut anyway.
const TRACKED: c_int = ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL;

type Shared = Arc<Drive>;

/// A VFS of its own for one disk.
pub(crate) struct Vfs {
    /// Never freed: a connection may outlive the disk. A few hundred bytes for each disk of a test.
    vfs: *mut ffi::sqlite3_vfs,
    name: &'static CStr,
}

// SAFETY: the pointer is given to SQLite's registry only, which has a mutex of its own.
unsafe impl Send for Vfs {}
// SAFETY: as above; nothing is changed through it.
unsafe impl Sync for Vfs {}

impl Vfs {
    pub(crate) fn register(state: &Shared) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("disk-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let name: &'static CStr = Box::leak(CString::new(name).unwrap_or_default().into_boxed_c_str());
        let state: &'static Shared = Box::leak(Box::new(Arc::clone(state)));
        // SAFETY: the default VFS is registered by `sqlite3_initialize`, which `sqlite3_vfs_find` calls, and
        // it is never freed. The copy keeps its functions, which do not depend on where the structure lies,
        // and replaces those that do.
        let vfs = unsafe {
            let system = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!system.is_null(), "SQLite has a default VFS");
            let mut vfs = *system;
            vfs.iVersion = vfs.iVersion.min(2);
            vfs.szOsFile += size_of::<File>() as c_int;
            vfs.pNext = ptr::null_mut();
            vfs.zName = name.as_ptr();
            vfs.pAppData = ptr::from_ref(state).cast_mut().cast();
            vfs.xOpen = Some(open);
            vfs.xDelete = Some(delete);
            let vfs = Box::into_raw(Box::new(vfs));
            assert_eq!(ffi::sqlite3_vfs_register(vfs, 0), ffi::SQLITE_OK);
            vfs
        };
        Self { vfs, name }
    }

    pub(crate) fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }
}

impl Drop for Vfs {
    fn drop(&mut self) {
        // SAFETY: it was registered; connections that are open keep their pointer to it, which stays valid.
        unsafe { ffi::sqlite3_vfs_unregister(self.vfs) };
    }
}

/// An open file; the system's own follows it in memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    context: *mut Context,
}

struct Context {
    state: Shared,
    path: PathBuf,
}

/// The system's file behind ours.
///
/// # Safety
/// `file` was opened by [`open`], which has `szOsFile` bytes: ours, then the system's.
unsafe fn system(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: within the same allocation; `File` is two pointers, so that what follows is aligned as it is.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// What we know of the file.
///
/// # Safety
/// As [`system`]; the file is not closed.
unsafe fn context<'a>(file: *mut ffi::sqlite3_file) -> &'a Context {
    // SAFETY: set by `open`, freed by `close` only.
    unsafe { &*(*file.cast::<File>()).context }
}

/// # Safety
/// `path` is null or ends with a zero.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    if path.is_null() {
        return PathBuf::new();
    }
    // SAFETY: as promised.
    let path = unsafe { CStr::from_ptr(path) };
    Path::new(OsStr::from_bytes(path.to_bytes())).to_owned()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives our VFS, a name that is null or ends with a zero, and `szOsFile` bytes for the
    // file. A file whose `pMethods` is null is not open and will not be closed.
    unsafe {
        (*file).pMethods = ptr::null();
        let default = ffi::sqlite3_vfs_find(ptr::null());
        let Some(system_open) = (*default).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        (*system(file)).pMethods = ptr::null();
        let result = system_open(default, name, system(file), flags, out_flags);
        if result != ffi::SQLITE_OK || flags & TRACKED == 0 {
            if result == ffi::SQLITE_OK {
                adopt(file, &(*vfs.cast_const()), PathBuf::new());
            }
            return result;
        }
        adopt(file, &(*vfs.cast_const()), path_of(name));
        result
    }
}

/// # Safety
/// `file` has room for ours, and the system's is open; the VFS is one of [`Vfs::register`].
unsafe fn adopt(file: *mut ffi::sqlite3_file, vfs: &ffi::sqlite3_vfs, path: PathBuf) {
    // SAFETY: `pAppData` was set by `register` and is never freed.
    let state = unsafe { Arc::clone(&*vfs.pAppData.cast::<Shared>()) };
    if !path.as_os_str().is_empty() {
        state.lock().open(&path);
    }
    let context = Box::into_raw(Box::new(Context { state, path }));
    // SAFETY: as promised.
    unsafe {
        (*file.cast::<File>()).context = context;
        (*file).pMethods = &raw const METHODS;
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: SQLite gives our VFS and a name that ends with a zero.
    unsafe {
        let state = &*(*vfs).pAppData.cast::<Shared>();
        let result = state.lock().delete(&path_of(name));
        let default = ffi::sqlite3_vfs_find(ptr::null());
        match (*default).xDelete {
            Some(system) if result == ffi::SQLITE_OK => system(default, name, sync_directory),
            _ => result,
        }
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and uses it no more.
    unsafe {
        drop(Box::from_raw((*file.cast::<File>()).context));
        (*file).pMethods = ptr::null();
        match (*(*system(file)).pMethods).xClose {
            Some(close) => close(system(file)),
            None => ffi::SQLITE_OK,
        }
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    amount: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives an open file and `amount` bytes.
    unsafe {
        let context = context(file);
        let length = usize::try_from(amount).unwrap_or(0);
        let content = std::slice::from_raw_parts(bytes.cast::<u8>(), length);
        let at = usize::try_from(offset).unwrap_or(0);
        let written = context.state.lock().write(&context.path, at, content);
        let passed = c_int::try_from(written.passed).unwrap_or(0);
        if let Some(write) = (*(*system(file)).pMethods).xWrite
            && passed > 0
        {
            let result = write(system(file), bytes, passed, offset);
            if result != ffi::SQLITE_OK {
                return result;
            }
        }
        written.result
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: SQLite gives an open file.
    unsafe {
        let context = context(file);
        let length = usize::try_from(size).unwrap_or(0);
        let result = context.state.lock().truncate(&context.path, length);
        match (*(*system(file)).pMethods).xTruncate {
            Some(truncate) if result == ffi::SQLITE_OK => truncate(system(file), size),
            _ => result,
        }
    }
}

/// Nothing is passed on: the system's file need not survive anything.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite gives an open file.
    let context = unsafe { context(file) };
    context.state.sync(&context.path)
}

/// Passes a call on to the system's file as it is.
macro_rules! passed_on {
    ($($name:ident: $method:ident($($argument:ident: $type:ty),*);)*) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($argument: $type),*) -> c_int {
            // SAFETY: SQLite gives an open file and the arguments that the method asks for.
            unsafe {
                match (*(*system(file)).pMethods).$method {
                    Some(method) => method(system(file), $($argument),*),
                    None => ffi::SQLITE_NOTFOUND,
                }
            }
        })*
    };
}

passed_on! {
    read: xRead(buffer: *mut c_void, amount: c_int, offset: ffi::sqlite3_int64);
    file_size: xFileSize(size: *mut ffi::sqlite3_int64);
    lock: xLock(level: c_int);
    unlock: xUnlock(level: c_int);
    check_reserved_lock: xCheckReservedLock(found: *mut c_int);
    file_control: xFileControl(operation: c_int, argument: *mut c_void);
    sector_size: xSectorSize();
    device_characteristics: xDeviceCharacteristics();
    shm_map: xShmMap(page: c_int, size: c_int, extend: c_int, mapped: *mut *mut c_void);
    shm_lock: xShmLock(offset: c_int, count: c_int, flags: c_int);
    shm_unmap: xShmUnmap(delete: c_int);
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: SQLite gives an open file.
    unsafe {
        if let Some(barrier) = (*(*system(file)).pMethods).xShmBarrier {
            barrier(system(file));
        }
    }
}

/// Version 2: with shared memory for the WAL's index, without memory-mapped files.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
