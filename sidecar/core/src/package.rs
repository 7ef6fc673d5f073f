//! Paid units that are bought together: an account's month needs a package for each so many that it uses or holds.

use serde::{Deserialize, Serialize};

use crate::money::Nanos;

/// Units that have one price together. There is at least one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Package {
    /// How many.
    pub units: u64,
    /// Money for all of them.
    pub price: Nanos,
}

impl Package {
    /// How many packages units take for which `room` units of bought ones are left.
    pub fn needed(self, units: u64, room: u64) -> u64 {
        units.saturating_sub(room).div_ceil(self.units.max(1))
    }

    /// How many packages of so many unused units nobody needs.
    pub fn unneeded(self, room: u64) -> u64 {
        room.checked_div(self.units).unwrap_or(0)
    }

    /// The unused units that packages keep of which others are needed.
    pub fn left_over(self, room: u64) -> u64 {
        room.checked_rem(self.units).unwrap_or(0)
    }

    /// What so many packages cost; `None` beyond money.
    pub fn cost(self, packages: u64) -> Option<Nanos> {
        self.price.checked_mul(packages)
    }

    /// The units of so many packages; `None` beyond any count.
    pub fn units_of(self, packages: u64) -> Option<u64> {
        self.units.checked_mul(packages)
    }
}

/// Packages that a call buys, or would buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bought {
    /// How many packages.
    pub count: u64,
    /// Units of one.
    pub units: u64,
    /// Money for one.
    pub price: Nanos,
}

impl Bought {
    /// So many; `None` for none.
    pub fn of(package: Option<Package>, count: u64) -> Option<Self> {
        let Package { units, price } = package?;
        (0 < count).then_some(Self { count, units, price })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn packages_are_whole() {
        let package = Package { units: 10, price: Nanos::new(3) };
        let needed = [(0, 0), (1, 0), (10, 0), (11, 0), (11, 1), (12, 1), (3, 7)]
            .map(|(units, room)| package.needed(units, room));
        assert_eq!(needed, [0, 1, 1, 2, 1, 2, 0]);
        assert_eq!([9, 10, 25].map(|room| package.unneeded(room)), [0, 1, 2]);
        assert_eq!([9, 10, 25].map(|room| package.left_over(room)), [9, 0, 5]);
        assert_eq!(Bought::of(Some(package), 0), None);
    }
}
