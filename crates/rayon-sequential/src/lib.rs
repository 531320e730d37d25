//! A sequential stand-in for the part of rayon that openmls uses.
//!
//! openmls encrypts path secrets through rayon, unconditionally. rayon's pool starts one thread per processor and
//! never ends them, while a C library must leave no thread behind after its last call; and a router with one or two
//! slow cores wins nothing from the pool. Here a *parallel iterator* is the ordinary iterator of the collection, so
//! that everything called on it afterwards (`map`, `zip`, `collect`) is `Iterator`'s own.
//!
//! Only what openmls needs is here: if an upgrade asks for more, the build says so.
#![forbid(unsafe_code)]
#![no_std]

/// What `use rayon::prelude::*` brings into scope.
pub mod prelude {
    pub use crate::{IntoParallelIterator, IntoParallelRefIterator};
}

/// Conversion of a collection into an iterator over its owned items.
pub trait IntoParallelIterator: IntoIterator + Sized {
    /// The ordinary, sequential iterator.
    fn into_par_iter(self) -> Self::IntoIter {
        self.into_iter()
    }
}

impl<C: IntoIterator> IntoParallelIterator for C {}

/// Conversion of a borrowed collection into an iterator over references to its items.
pub trait IntoParallelRefIterator<'data> {
    /// The iterator over references.
    type Iter: Iterator;

    /// The ordinary, sequential iterator over references.
    fn par_iter(&'data self) -> Self::Iter;
}

impl<'data, C: ?Sized + 'data> IntoParallelRefIterator<'data> for C
where
    &'data C: IntoIterator,
{
    type Iter = <&'data C as IntoIterator>::IntoIter;

    fn par_iter(&'data self) -> Self::Iter {
        self.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::prelude::*;

    #[test]
    fn keeps_order_and_length() {
        let numbers = [1, 2, 3];
        assert!(numbers.par_iter().zip(numbers.into_par_iter()).all(|(a, b)| *a == b));
        assert_eq!(numbers.par_iter().count(), 3);
    }
}
