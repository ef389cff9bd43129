"""What the web page pays back when a customer cancels. Follows the sheet "Refunds and changes" of October 2025."""

from dataclasses import dataclass
from datetime import datetime, timedelta

FULL_UNTIL = timedelta(hours=72)
PARTIAL_UNTIL = timedelta(hours=24)
PARTIAL_SHARE = 0.60
VOUCHER_MONTHS = 18
GROUP_DEPOSIT_GBP = 50


@dataclass(frozen=True)
class Booking:
    """One booking as the web page sees it."""

    fare_gbp: float
    departure: datetime
    saver: bool = False
    group: bool = False


def refund(booking: Booking, now: datetime) -> float:
    """Pounds that go back to the card, rounded down to whole pence."""
    if booking.saver:
        return 0.0  # a voucher is made by hand, within 14 days of purchase
    left = booking.departure - now
    share = 1.0 if left > FULL_UNTIL else PARTIAL_SHARE if left >= PARTIAL_UNTIL else 0.0
    amount = booking.fare_gbp * share
    if booking.group:
        amount = max(0.0, amount - GROUP_DEPOSIT_GBP)
    return int(amount * 100) / 100


def voucher_expiry(issued: datetime) -> datetime:
    """Vouchers are valid for VOUCHER_MONTHS months of 30.44 days, as the ledger counts them."""
    return issued + timedelta(days=round(VOUCHER_MONTHS * 30.44))


def needs_supervisor(amount_gbp: float, paid_in_cash: bool) -> bool:
    """Whether a second person has to agree: above 300 pounds, and always for cash."""
    return paid_in_cash or amount_gbp > 300
