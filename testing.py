"""For tests of handlers: a handler on messages, in this process, with the verdicts of a pool.

from rsq.testing import Trial

def test_an_order_without_an_amount_is_rejected():
    result = Trial(handle).run({"order": 1, "amount": 0})
    assert (result.verdict, result.reason) == ("dead", "rejected")
"""

from rsq.worker.trial import Result, Trial

__all__ = ["Result", "Trial"]
