"""What the operator does with customers' money: credit, corrections, refunds, credit lines.

Owns these verbs of the office: each is one transaction on the ledger that notes who acts, under the
same name as the transfer does.
"""

from __future__ import annotations

import secrets

from safelight import credit_lines, customers, jobs, ledger
from safelight.db import Transaction
from safelight.money import micros_to_dollars
from safelight.office_acting import Acting, NotCharged, Note
from safelight.office_customers import topup
from safelight.types import Balance, Micros


class OfficeMoney(Acting):
    """The money of one data folder."""

    async def credit(self, customer: str, amount_micros: Micros, reason: str) -> Balance:
        """Top up a customer by name, or correct the balance downwards with a negative amount.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: less than that is available.
        """

        def work(tx: Transaction, note: Note) -> Balance:
            return self._credit(
                tx, note, customers.customer_named(tx, customer), amount_micros, reason
            )

        return await self._act("credit.add", customer, work)

    async def credit_by_id(self, customer_id: str, amount_micros: Micros, reason: str) -> Balance:
        """Do the same for the customer with an id."""
        return await self._act(
            "credit.add",
            customer_id,
            lambda tx, note: self._credit(tx, note, customer_id, amount_micros, reason),
        )

    def _credit(
        self, tx: Transaction, note: Note, customer_id: str, amount_micros: Micros, reason: str
    ) -> Balance:
        note.subject, note.before = customer_id, _posted(ledger.balance(tx, customer_id))
        if amount_micros > 0:
            topup(tx, customer_id, amount_micros, reason, actor=self._actor)
        else:
            ledger.adjust(
                tx,
                transfer_id=f"tr_{secrets.token_hex(12)}",
                customer_id=customer_id,
                amount_micros=amount_micros,
                actor=self._actor.id,
                reason=reason,
            )
        credit_lines.look_again(tx, customer_id)
        balance = ledger.balance(tx, customer_id)
        note.after = f"{_posted(balance)}: {reason}"
        return balance

    async def refund(self, job_id: str, reason: str) -> tuple[Micros, Balance]:
        """Give the charge of a job back, once; return how much, and the customer's balance.

        Raises:
            LookupError: no job has the id.
            NotCharged: it has cost nothing (yet).
            ledger.AlreadyResolved: it was given back before.
        """
        transfer_id = f"tr_{secrets.token_hex(12)}"

        def work(tx: Transaction, note: Note) -> tuple[Micros, Balance]:
            job = jobs.get_job(tx, job_id)
            if job is None:
                raise LookupError(f"no job has the id {job_id!r}")
            story = ledger.story(tx, job.reserve_id)
            settled = [row for row in story if row["kind"] == "settle"]
            if not settled:
                raise NotCharged(f"the job {job_id} is {job.state} and has cost nothing")
            ledger.refund(
                tx,
                transfer_id=transfer_id,
                settle_id=settled[0]["id"],
                actor=self._actor.id,
                reason=reason,
            )
            credit_lines.look_again(tx, job.customer_id)
            amount: Micros = settled[0]["amount_micros"]
            note.before = f"charged {micros_to_dollars(amount)}"
            note.after = f"refunded: {reason}"
            return amount, ledger.balance(tx, job.customer_id)

        return await self._act("job.refund", job_id, work)

    async def set_credit_line(self, customer: str, line_micros: Micros) -> Balance:
        """Let a customer, by name, owe at most so much; 0 is prepaid.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: more than that is owed or held already.
        """

        def work(tx: Transaction, note: Note) -> Balance:
            return _line(tx, note, customers.customer_named(tx, customer), line_micros)

        return await self._act("credit_line.set", customer, work)

    async def set_credit_line_by_id(self, customer_id: str, line_micros: Micros) -> Balance:
        """Do the same for the customer with an id."""
        return await self._act(
            "credit_line.set",
            customer_id,
            lambda tx, note: _line(tx, note, customer_id, line_micros),
        )


def _line(tx: Transaction, note: Note, customer_id: str, line_micros: Micros) -> Balance:
    note.subject = customer_id
    note.before = micros_to_dollars(ledger.balance(tx, customer_id).credit_line_micros)
    ledger.set_credit_line(tx, customer_id, line_micros)
    credit_lines.look_again(tx, customer_id)
    note.after = micros_to_dollars(line_micros)
    return ledger.balance(tx, customer_id)


def _posted(balance: Balance) -> str:
    return f"posted {micros_to_dollars(balance.posted_micros)}"
