"""A method of your own: server code and client programs, compared with the built-in ones.

Ditto (Li, Hu, Beirami, Smith, ICML 2021): beside the common model, every client trains a personal one that is pulled towards it.
Run: python examples/own_method.py
"""

from typing import NamedTuple

import atoll
from atoll.core.fold import mean
from atoll.core.local import data_loss, sgd, with_proximal
from atoll.core.method import hyper, method


class Reply(NamedTuple):
    w: object  # the client's copy of the common model after training
    weight: object  # its number of rows


@method
class Ditto:
    lr: float = hyper(0.05, gt=0)
    lam: float = hyper(0.1, ge=0)  # pull of the personal model towards the common one
    batch: int = hyper(20, ge=1)

    def init(self, fed):
        return fed.model.init(fed.key())

    def join(self, k, w):  # private state of a client, made at first contact
        return w

    def round(self, w, fed):  # the server
        return fed.ask(fed.sample(), self.update, w, reduce=mean).w

    def update(self, k, w):  # client k: (reply, new private state)
        v, _ = sgd(k, k.state, self.lr, batch=self.batch, loss=with_proximal(data_loss, self.lam, w))
        w, _ = sgd(k, w, self.lr, batch=self.batch)
        return Reply(w, k.n.astype("float32")), v

    def personalize(self, k, w):
        return k.state

    def global_model(self, k, w):
        return w


if __name__ == "__main__":
    result = atoll.run("digits", [Ditto(lam=0.1), Ditto(lam=1.0)], rounds=10, out=None)
    result.show()
    print("Report:", result.report())
