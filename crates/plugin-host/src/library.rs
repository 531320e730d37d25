//! What is foreign: shared libraries, and the table that a plugin filled.

use crate::{LoadError, Plugin};
use nix::libc::{self, c_int, c_void};
use quicprochat_plugin_api::{
    ABI_VERSION, ABI_VERSION_QUERY, AbiVersion, CONFIGURE, Configure, HookVTable, INIT, Init, PLUGIN_OK,
};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// The table as it is handed out: room for a longer one of a later version behind it, zeroed.
#[repr(C)]
struct Room {
    table: HookVTable,
    later: [usize; 54],
}

/// A plugin's table. It lives as long as the process, and so does the plugin's code: a hook that was abandoned may still run.
#[derive(Clone, Copy)]
pub(crate) struct Table(pub(crate) &'static HookVTable);

/// Loads a plugin and has it initialise itself. Runs its code: to be tried in a child first.
pub(crate) fn load(plugin: &Plugin) -> Result<Table, LoadError> {
    let unfit = |what: String| LoadError::Unfit(what);
    let nul = |_| unfit("a NUL in its path or settings".into());
    let path = CString::new(plugin.path.as_os_str().as_bytes()).map_err(nul)?;
    let settings = CString::new(plugin.settings.as_deref().unwrap_or("{}")).map_err(nul)?;
    // SAFETY: the path is NUL-terminated. The library's constructors run, which is what plugins are loaded for.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return Err(unfit(linker_error()));
    }
    // No dlclose: see `Table`.
    if let Some(version) = symbol(library, ABI_VERSION_QUERY) {
        // SAFETY: a symbol of this name is such a function.
        let version = unsafe { std::mem::transmute::<*mut c_void, AbiVersion>(version)() };
        if version >> 16 != ABI_VERSION >> 16 {
            let (theirs, ours) = (version >> 16, ABI_VERSION >> 16);
            return Err(unfit(format!(
                "it is made for version {theirs} of the plugin ABI, and this is {ours}"
            )));
        }
    }
    let missing = || unfit(format!("it has no symbol {}", INIT.to_string_lossy()));
    let init = symbol(library, INIT).ok_or_else(missing)?;
    match symbol(library, CONFIGURE) {
        Some(configure) => {
            // SAFETY: a symbol of this name is such a function, and the text is NUL-terminated.
            let code = unsafe { std::mem::transmute::<*mut c_void, Configure>(configure)(settings.as_ptr()) };
            if code != PLUGIN_OK {
                return Err(unfit(format!("it does not accept its settings ({code})")));
            }
        }
        None if plugin.settings.is_some() => {
            let symbol = CONFIGURE.to_string_lossy();
            return Err(unfit(format!("it takes no settings: it has no symbol {symbol}")));
        }
        None => {}
    }
    let room = Box::leak(Box::new(Room { table: EMPTY, later: [0; 54] }));
    // SAFETY: a symbol of this name is such a function. The pointer is to the whole of the room and not only to the table, for a plugin that
    // knows more slots.
    let code =
        unsafe { std::mem::transmute::<*mut c_void, Init>(init)(ptr::from_mut(room).cast::<HookVTable>()) };
    if code != PLUGIN_OK {
        return Err(unfit(format!("qpc_plugin_init failed with {code}")));
    }
    let wild = slots(&room.table).into_iter().find(|(_, address)| *address != 0 && !is_code(*address));
    if let Some((name, address)) = wild {
        return Err(unfit(format!("its slot {name} points to {address:#x}, where no code is")));
    }
    Ok(Table(&room.table))
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the handle is of dlopen, and the name NUL-terminated.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

fn linker_error() -> String {
    // SAFETY: no other thread uses the linker, which alone could change the text meanwhile.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the dynamic linker does not take it".into();
    }
    // SAFETY: not null, thus a NUL-terminated text.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The slots as addresses, which a plugin may have filled with anything.
fn slots(table: &HookVTable) -> [(&'static str, usize); 9] {
    macro_rules! slots {
        ($($name:ident)*) => { [$((stringify!($name), table.$name.map_or(0, |function| function as usize))),*] };
    }
    slots!(on_message_enqueue on_batch_enqueue on_auth on_channel_created on_fetch on_user_registered error_message destroy on_shutdown)
}

/// Whether an address is in an executable segment of a loaded file.
fn is_code(address: usize) -> bool {
    struct Search {
        address: usize,
        found: bool,
    }
    unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: the linker gives a valid description, and passes on the search it was given.
        let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the description says where its segments' headers are, and how many.
        let segments = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        search.found = segments.iter().any(|segment| {
            let start = (info.dlpi_addr as usize).wrapping_add(segment.p_vaddr as usize);
            segment.p_type == libc::PT_LOAD
                && segment.p_flags & libc::PF_X != 0
                && search.address.wrapping_sub(start) < segment.p_memsz as usize
        });
        c_int::from(search.found)
    }
    let mut search = Search { address, found: false };
    // SAFETY: `look` gets the search back, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), ptr::from_mut(&mut search).cast()) };
    search.found
}

const EMPTY: HookVTable = HookVTable {
    user_data: ptr::null_mut(),
    on_message_enqueue: None,
    on_batch_enqueue: None,
    on_auth: None,
    on_channel_created: None,
    on_fetch: None,
    on_user_registered: None,
    error_message: None,
    destroy: None,
    on_shutdown: None,
};
