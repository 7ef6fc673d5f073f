//! Double entry: every movement of money is an entry of two or more legs that sum to zero.
//!
//! Signs are those of the account's owner: a credit of 10 is `+10` on the user's leg. What users own, earnings and
//! receivables are all legs of the same kind; only a user's legs carry a running balance.

use crate::money::Nanos;

/// Where a leg of an entry is booked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Book {
    /// The prepaid balance of the entry's user.
    User,
    /// What the entry's user owes because a charge found no money left; negative while something is owed.
    Receivable,
    /// What was earned with a service.
    Earnings(String),
    /// Money that came in, or went back, through the payment service; negative as far as it came in.
    Payments,
    /// Money that operators added or removed by hand.
    Adjustment,
    /// Balances that existed before this ledger began.
    Opening,
}

impl Book {
    /// The text in the `book` column.
    pub fn as_text(&self) -> String {
        match self {
            Self::User => "user".to_owned(),
            Self::Receivable => "receivable".to_owned(),
            Self::Earnings(service) => format!("earnings:{service}"),
            Self::Payments => "payments".to_owned(),
            Self::Adjustment => "adjustment".to_owned(),
            Self::Opening => "opening".to_owned(),
        }
    }
}

/// One line of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Where it is booked.
    pub book: Book,
    /// Added there; negative when taken.
    pub amount: Nanos,
}

/// A balanced set of legs; it cannot be built unbalanced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    legs: Vec<Leg>,
}

impl Entry {
    /// Moves `amount` from one book to another. `None` when the amount has no opposite.
    fn transfer(from: Book, to: Book, amount: Nanos) -> Option<Self> {
        let legs =
            vec![Leg { book: from, amount: amount.checked_neg()? }, Leg { book: to, amount }];
        Some(Self { legs })
    }

    /// A charge for usage of `service`: `paid` from the user's balance, `owed` booked as receivable.
    ///
    /// `None` when the sum is out of range.
    pub fn charge(service: &str, paid: Nanos, owed: Nanos) -> Option<Self> {
        Self::outgoing(Book::Earnings(service.to_owned()), paid, owed)
    }

    /// Money of a charge for `service` that goes back to the user.
    pub fn charge_refund(service: &str, amount: Nanos) -> Option<Self> {
        Self::transfer(Book::Earnings(service.to_owned()), Book::User, amount)
    }

    /// Moves money from the user to another book; the part that the balance does not have is owed.
    fn outgoing(to: Book, paid: Nanos, owed: Nanos) -> Option<Self> {
        let mut legs = Vec::with_capacity(3);
        if paid != Nanos::ZERO {
            legs.push(Leg { book: Book::User, amount: paid.checked_neg()? });
        }
        if owed != Nanos::ZERO {
            legs.push(Leg { book: Book::Receivable, amount: owed.checked_neg()? });
        }
        legs.push(Leg { book: to, amount: paid.checked_add(owed)? });
        Some(Self { legs })
    }

    /// Money that an operator adds to a balance.
    pub fn adjustment(amount: Nanos) -> Option<Self> {
        Self::transfer(Book::Adjustment, Book::User, amount)
    }

    /// Money that a user paid in.
    pub fn recharge(amount: Nanos) -> Option<Self> {
        Self::transfer(Book::Payments, Book::User, amount)
    }

    /// Money that goes back to the payer: `taken` from the user's balance, `owed` booked as receivable.
    ///
    /// `None` when the sum is out of range.
    pub fn refund(taken: Nanos, owed: Nanos) -> Option<Self> {
        Self::outgoing(Book::Payments, taken, owed)
    }

    /// Money of a balance that pays off what the user owes.
    pub fn collection(amount: Nanos) -> Option<Self> {
        Self::transfer(Book::User, Book::Receivable, amount)
    }

    /// The legs, which sum to zero.
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn sum(entry: &Entry) -> i64 {
        entry.legs().iter().map(|leg| leg.amount.get()).sum()
    }

    #[test]
    fn every_entry_sums_to_zero() {
        let nano = Nanos::new;
        for entry in [
            Entry::charge("asset", nano(3), nano(0)),
            Entry::charge("asset", nano(0), nano(4)),
            Entry::charge("asset", nano(3), nano(4)),
            Entry::charge_refund("asset", nano(7)),
            Entry::adjustment(nano(9)),
            Entry::adjustment(nano(-9)),
            Entry::collection(nano(5)),
            Entry::recharge(nano(8)),
            Entry::refund(nano(3), nano(0)),
            Entry::refund(nano(0), nano(4)),
            Entry::refund(nano(3), nano(4)),
        ] {
            assert_eq!(sum(&entry.unwrap()), 0);
        }
    }

    #[test]
    fn a_charge_without_money_has_no_user_leg() {
        let entry = Entry::charge("asset", Nanos::ZERO, Nanos::new(4)).unwrap();
        assert!(entry.legs().iter().all(|leg| leg.book != Book::User));
    }
}
