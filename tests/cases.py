"""One row per method: small hyperparameters, its traffic formula, and what it needs. The contract tests run on every row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from atoll.core.federation import Facts
from atoll.core.model import Model
from atoll.engine.device import nbytes
from atoll.methods import get
from atoll.methods.apfl import APFL
from atoll.methods.aruba import ARUBA
from atoll.methods.astraea import Astraea
from atoll.methods.cbfl import CBFL
from atoll.methods.cfl import CFL
from atoll.methods.d_distillation import DDistillation
from atoll.methods.dapper import DAPPER
from atoll.methods.data_sharing import DataSharing
from atoll.methods.ditto import Ditto
from atoll.methods.faug import FAug
from atoll.methods.fd import FD
from atoll.methods.fedala import FedALA
from atoll.methods.fedamp import FedAMP
from atoll.methods.fedavg import FedAvg
from atoll.methods.fedavg_ft import FedAvgFT
from atoll.methods.fedbabu import FedBABU
from atoll.methods.fedbn import FedBN
from atoll.methods.fedcl import FedCL
from atoll.methods.fedcurv import FedCurv
from atoll.methods.feddf import FedDF
from atoll.methods.fedfomo import FedFomo
from atoll.methods.fedgen import FedGen
from atoll.methods.fedgkt import FedGKT
from atoll.methods.fedgroup import FedGroup
from atoll.methods.fedhealth import FedHealth, FedSteg
from atoll.methods.fedhome import FedHome
from atoll.methods.fedmd import FedMD
from atoll.methods.fedpac import FedPAC
from atoll.methods.fedper import FedPer
from atoll.methods.fedproto import FedProto
from atoll.methods.fedprox import FedProx
from atoll.methods.fedrep import FedRep
from atoll.methods.fedrod import FedRoD
from atoll.methods.fesem import FeSEM
from atoll.methods.fl_hc import FLHC
from atoll.methods.furl import FURL
from atoll.methods.heterofl import HeteroFL
from atoll.methods.heurfedamp import HeurFedAMP
from atoll.methods.hypcluster import HypCluster
from atoll.methods.ifca import IFCA
from atoll.methods.knn_per import KNNPer
from atoll.methods.l2gd import L2GD
from atoll.methods.l2sgd import L2SGD
from atoll.methods.lg_ensemble import LGEnsemble
from atoll.methods.lg_fair import LGFair
from atoll.methods.lg_fedavg import LGFedAvg
from atoll.methods.local import Local
from atoll.methods.majority import Majority
from atoll.methods.mapper import MAPPER
from atoll.methods.mocha import MOCHA
from atoll.methods.moon import MOON
from atoll.methods.per_fedavg import PerFedAvg
from atoll.methods.pfedgraph import PFedGraph
from atoll.methods.pfedhn import PFedHN
from atoll.methods.pfedme import PFedMe
from atoll.methods.pooled import Pooled
from atoll.methods.reptile import Reptile
from atoll.methods.scaffold import Scaffold
from atoll.methods.split_learning import SplitLearning
from atoll.methods.virtual import VIRTUAL
from atoll.parts.clustered import Clustered
from atoll.parts.wrappers import FineTune


@dataclass(frozen=True)
class Bytes:
    """Sizes for traffic formulas, of one client's architecture."""

    net: Model
    facts: Facts
    rows: int  # train rows of the client

    @property
    def model(self) -> int:
        """Bytes of the whole model, buffers included."""
        return nbytes(self._shape())

    def shared(self, personal: Any) -> int:
        """Bytes of what is left when `personal` blocks stay at the client (a number of last blocks, or names)."""
        return nbytes(jax.eval_shape(lambda w: self.net.split(w, personal)[0], self._shape()))

    def private(self, personal: Any) -> int:
        return self.model - self.shared(personal)

    def _shape(self) -> Any:
        return jax.eval_shape(self.net.init, jax.random.key(0))


@dataclass(frozen=True)
class Case:
    """A method as the contract tests run it."""

    method: Any
    down: Callable[[Bytes], int]  # bytes to one client in an ordinary round
    up: Callable[[Bytes], int]
    models: tuple[str, ...] = ("mlp:6",)
    public: int = 0  # rows of public data it needs
    asks_all: bool = False  # asks every client each round, whatever the selector says
    asks_nobody: bool = False  # asks no client at all: who drops out does not matter
    bad: tuple[str, Any] = ("lr", -1.0)  # a hyperparameter and a value out of its range
    flops: float = 1e-6  # how nearly engines agree on them; less where a gradient over all rows stands in a loop, whose own passes XLA then counts otherwise
    near: float = 1e-5  # how nearly the loop engine agrees on numbers
    wire: bool = True  # False: refuses to run where rows lie at different sites


W = 4  # bytes of a weight n_k
DECODER = 4 * ((6 + 1) * 2 * 2 * 16 + (3 * 3 * 16 + 1) * 8 + 3 * 3 * 8 + 1)  # of FedHome: 6 features to 2x2 pixels of 16 channels, to 4x4 of 8, to 8x8 of 1


CASES: dict[str, Case] = {
    "fedavg": Case(FedAvg(batch=4), down=lambda b: b.model, up=lambda b: b.model + W),
    "majority": Case(Majority(), down=lambda b: 0, up=lambda b: 0, asks_nobody=True),
    "pooled": Case(Pooled(batch=4), down=lambda b: 0, up=lambda b: 0, asks_nobody=True, wire=False),
    "fedavg-ft": Case(FedAvgFT(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("what", "tail")),
    "fedavg-ft-head": Case(FedAvgFT(batch=4, what="head", ft_lr=0.1), down=lambda b: b.model, up=lambda b: b.model + W, bad=("ft_epochs", -1)),
    "split-learning": Case(
        SplitLearning(batch=5),  # all clients have a last batch of 4 rows; the cut has 6 values
        down=lambda b: b.shared(1) + 4 * (6 * b.rows + 2 * -(-b.rows // 5)),
        up=lambda b: b.shared(1) + 4 * (6 + 1) * b.rows,
        bad=("lower", 0),
    ),
    "fedprox": Case(FedProx(batch=4, mu=1.0), down=lambda b: b.model, up=lambda b: b.model + W, bad=("mu", -0.1)),
    "fedprox-gamma": Case(
        FedProx(batch=4, mu=1.0, epochs=4, gamma=0.6), down=lambda b: b.model, up=lambda b: b.model + 4 + W, bad=("gamma", 1.0), flops=0.02
    ),
    "local": Case(Local(batch=4), down=lambda b: 0, up=lambda b: 0, asks_all=True),
    "scaffold": Case(Scaffold(batch=4), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W),
    "scaffold-warm": Case(
        Scaffold(batch=4, warm_start=True, option=1, server_lr=0.8), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W, bad=("option", 3)
    ),
    "data-sharing": Case(
        DataSharing(batch=4, alpha=0.3),
        down=lambda b: b.model,  # rows are sent in the first round only; tests/exact has their bytes
        up=lambda b: b.model + W,
        public=10,
        bad=("alpha", 0.0),
    ),
    "astraea": Case(
        Astraea(batch=4, gamma=2),
        down=lambda b: b.model + 4 * b.net.outputs + 4,  # with a ratio for each label, and the number of the pass
        up=lambda b: b.model + W,
        bad=("T_a", 0.1),
    ),
    "astraea-passes": Case(
        Astraea(batch=4, gamma=3, E_m=2),
        down=lambda b: 2 * (b.model + 4 * b.net.outputs + 4),
        up=lambda b: 2 * (b.model + W),
        bad=("gamma", 0),
    ),
    "faug": Case(
        FAug(batch=4, seeds=2, targets=1, hidden=8, gan_steps=20),
        down=lambda b: b.model,  # the generator is sent in the first round only; tests/exact has its bytes
        up=lambda b: b.model + W,
        bad=("seeds", 0),
    ),
    "fedhome": Case(
        FedHome(batch=4, ft_epochs=2),
        down=lambda b: b.model + DECODER,
        up=lambda b: b.model + DECODER + W,
        bad=("mu", -1.0),
    ),
    "fedcl": Case(FedCL(batch=4), down=lambda b: 2 * b.model, up=lambda b: b.model + W, public=10, bad=("lam", -1.0)),
    "fedcurv": Case(FedCurv(batch=4), down=lambda b: 3 * b.model, up=lambda b: 3 * b.model + W, bad=("lam", -1.0)),
    "mocha": Case(
        MOCHA(inner=1), down=lambda b: b.model + 4, up=lambda b: b.model, models=("softmax",), bad=("lam", 0.0)
    ),
    "virtual": Case(  # where there is hardly a gradient, Adam makes steps of rounding errors
        VIRTUAL(batch=4, samples=2), down=lambda b: 2 * b.shared(1) + 4, up=lambda b: 2 * b.shared(1), bad=("gamma", 1.5), near=1e-2
    ),
    "moon": Case(MOON(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("tau", 0.0)),
    "moon-buffer": Case(MOON(batch=4, buffer=2), down=lambda b: b.model, up=lambda b: b.model + W, bad=("buffer", 0)),
    "reptile": Case(Reptile(batch=4, first=1, K=3), down=lambda b: b.model, up=lambda b: b.model + W, bad=("server", "adagrad")),
    "aruba": Case(ARUBA(batch=4), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W, bad=("zeta", 0.0)),
    "aruba-plus": Case(ARUBA(batch=4, isotropic=True, plus=0.5), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W, bad=("plus", -1.0)),
    "fedhealth": Case(
        FedHealth(batch=4, eta=2.0, upper=2),
        down=lambda b: b.model + b.shared(1),  # to train it, and to describe its features
        up=lambda b: b.model + W + 4 * (6 * 6 + 6 + 1),  # of 6 features: covariance, mean, number of rows
        bad=("eta", -1.0),
    ),
    "fedsteg": Case(
        FedSteg(batch=4, ft_epochs=1),
        down=lambda b: b.model + b.shared(1),
        up=lambda b: b.model + W + 4 * (6 * 6 + 6 + 1),
        bad=("batch", 1),
    ),
    "fedmd": Case(
        FedMD(public_epochs=1, private_epochs=1, private_batch=4, alignment=6, digest_batch=4, revisit_epochs=1),
        down=lambda b: 6 * 4 + 6 * b.net.outputs * 4,  # the numbers of 6 public rows, and their consensus
        up=lambda b: 6 * b.net.outputs * 4 + W,
        models=("mlp:6", "softmax"),
        public=10,
    ),
    "fd": Case(
        FD(batch=4),
        down=lambda b: 4 * b.net.outputs**2,
        up=lambda b: 4 * b.net.outputs**2,
        models=("mlp:6", "softmax"),
        bad=("gamma", -1.0),
    ),
    "d-distillation": Case(  # three neighbours each; tests/exact has other graphs
        DDistillation(batch=4, exchanged=6, reference_batch=4, graph="complete"),
        down=lambda b: 4 * 6 + 3 * 4 * (6 * b.net.outputs + 1),
        up=lambda b: 3 * 4 * 6 * b.net.outputs,
        models=("softmax",),
        public=10,
        bad=("rho", -1.0),
    ),
    "fedgen": Case(
        FedGen(batch=4, steps=3, gen_steps=2, gen_batch=4, noise=4, hidden=5),
        down=lambda b: b.model + 4 * ((4 + b.net.outputs + 1) * 5 + (5 + 1) * 6) + 4 * b.net.outputs,  # the generator of 6 features, and the labels' shares
        up=lambda b: b.model + 4 * b.net.outputs,
        bad=("alpha", -1.0),
    ),
    "fedgkt": Case(
        FedGKT(batch=24, epochs=1, lr=0.1),  # all clients' rows fit into one batch; the cut has 6 values
        down=lambda b: 4 * 24 * b.net.outputs,
        up=lambda b: 4 * 24 * (6 + b.net.outputs + 1),
        bad=("T", 0.0),
    ),
    "feddf": Case(
        FedDF(epochs=1, batch=4, steps=3, distil_batch=6),
        down=lambda b: b.model,
        up=lambda b: b.model,
        models=("mlp:6", "softmax"),
        public=10,
        bad=("steps", -1),
    ),
    "heterofl": Case(HeteroFL(batch=4, epochs=1, levels="ab"), down=lambda b: b.model, up=lambda b: b.model + 4 * b.net.outputs),
    "per-fedavg": Case(PerFedAvg(batch=4, steps=3), down=lambda b: b.model, up=lambda b: b.model + W, bad=("beta", 0.0)),
    "per-fedavg-fo": Case(PerFedAvg(batch=4, steps=3, variant="fo"), down=lambda b: b.model, up=lambda b: b.model + W, bad=("alpha", -0.1)),
    "per-fedavg-exact": Case(PerFedAvg(batch=4, steps=3, variant="exact"), down=lambda b: b.model, up=lambda b: b.model + W, bad=("variant", "so")),
    "pfedme": Case(PFedMe(batch=4, R=3, K=2), down=lambda b: b.model, up=lambda b: b.model + W, bad=("lam", -1.0)),
    "apfl": Case(APFL(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("alpha", 1.5)),
    "l2gd": Case(L2GD(lam=2.0, p=0.3, batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("p", 1.0)),  # coins of rounds 1 to 3: 0, 1, 1
    "l2sgd": Case(L2SGD(lam=2.0, p=0.3, batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("p", 0.0)),
    "fedper": Case(FedPer(batch=4), down=lambda b: b.shared(1), up=lambda b: b.shared(1) + W),
    "furl": Case(
        FURL(batch=4, d=2, hidden=3),
        down=lambda b: b.shared(1) + 4 * ((6 + 2 + 1) * 3 + (3 + 1) * b.net.outputs),  # without the head; MLP on 6 features and 2 values
        up=lambda b: b.shared(1) + 4 * ((6 + 2 + 1) * 3 + (3 + 1) * b.net.outputs) + W,
        bad=("d", 0),
    ),
    "fedrep": Case(
        FedRep(batch=4, head_epochs=2, last=1), down=lambda b: b.shared(1), up=lambda b: b.shared(1) + W, bad=("head_epochs", -1)
    ),
    "fedbabu": Case(FedBABU(batch=4, ft_epochs=2), down=lambda b: b.shared(1), up=lambda b: b.shared(1) + W, bad=("what", "body")),
    "fedbn": Case(
        FedBN(batch=5),  # no last batch of one row, whose variance is 0
        down=lambda b: b.shared(("norm1",)),
        up=lambda b: b.shared(("norm1",)) + W,
        models=("mlp:6,norm=batch",),
    ),
    "fedrod": Case(FedRoD(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("gamma", 0.0)),
    "fedproto": Case(
        FedProto(batch=4),
        down=lambda b: 4 * b.net.outputs * (6 + 1),  # of 6 features, and of how many rows
        up=lambda b: 4 * b.net.outputs * (6 + 1),
        models=("mlp:6", "mlp:7,6"),
        bad=("inference", "both"),
    ),
    "fedpac": Case(
        FedPAC(batch=4),
        down=lambda b: b.model + 4 * b.net.outputs * (6 + 1),  # base, prototypes of 6 features with counts, and the mixed head
        up=lambda b: b.model + 4 * b.net.outputs * (6 + 1 + 6) + 4,  # base, head, prototypes, statistics and their variance
        bad=("lam", -1.0),
    ),
    "lg-fedavg": Case(LGFedAvg(batch=4), down=lambda b: b.private(1), up=lambda b: b.private(1) + W),  # its one shared block is the last
    "lg-fedavg-warm": Case(LGFedAvg(batch=4, warmup=1), down=lambda b: b.model + b.private(1), up=lambda b: b.private(1) + W),  # the round of joining
    "lg-ensemble": Case(LGEnsemble(batch=4), down=lambda b: b.private(1), up=lambda b: b.model + W, bad=("warmup", -1)),
    "lg-fair": Case(LGFair(batch=8, protected=28), down=lambda b: b.private(1), up=lambda b: b.private(1) + W, bad=("lam", -1.0)),
    "fedfomo": Case(
        FedFomo(batch=4, epochs=1, M=2), down=lambda b: 2 * b.model, up=lambda b: b.model + 3 * W, bad=("kept", 1.0)
    ),
    "pfedgraph": Case(PFedGraph(batch=4, lam=0.1), down=lambda b: 2 * b.model, up=lambda b: b.model + W, bad=("pull", 0)),
    "pfedhn": Case(PFedHN(K=3, batch=4, hidden=5), down=lambda b: b.model, up=lambda b: b.model, bad=("momentum", 1.0)),
    "ditto": Case(Ditto(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("lam", -1.0)),
    "fedamp": Case(FedAMP(batch=4), down=lambda b: b.model, up=lambda b: b.model, bad=("alpha", 1.5)),
    "heurfedamp": Case(HeurFedAMP(batch=4), down=lambda b: b.model, up=lambda b: b.model, bad=("own", 1.5)),
    "cfl": Case(  # four clients are split in the first round
        CFL(batch=4, eps1=2.0, eps2=0.0, gamma_max=0.0, burn_in=0), down=lambda b: b.model, up=lambda b: b.model, bad=("gamma_max", 1.5)
    ),
    "fl-hc": Case(  # clustered in the first round
        FLHC(batch=4, epochs=1, n=0, threshold=0.95), down=lambda b: b.model + 4, up=lambda b: b.model + 4 + W, bad=("metric", "l3")
    ),
    "fedgroup": Case(
        FedGroup(batch=4, epochs=1, g=2, pretrain_steps=3), down=lambda b: b.model + 4, up=lambda b: b.model + 4 + W, bad=("eta_G", -0.1)
    ),
    "fesem": Case(FeSEM(batch=4, epochs=1, K=2), down=lambda b: b.model, up=lambda b: b.model, bad=("K", 0)),
    "cbfl": Case(
        CBFL(batch=4, K=2, A=1, ae_epochs=1, ae_batch=8, hidden=6, code=3),
        # the round in which clients get autoencoder (64-6-3-6-64), centroids and, beside the models of the round, those it began with
        down=lambda b: 4 * b.model + 4 * (2 * (64 * 6 + 6 * 3) + 6 + 3 + 6 + 64) + 4 * 2 * 3,
        up=lambda b: 2 * (b.model + W),
        bad=("noise", 1.0),
    ),
    "mapper": Case(MAPPER(batch=4, grid=2), down=lambda b: b.model, up=lambda b: b.model + W, bad=("lowest", 1.5)),
    "dapper": Case(
        DAPPER(batch=4, epochs=2, central_epochs=2, grid=2),
        down=lambda b: 0,  # all in the round in which a client is first asked; tests/exact has its bytes
        up=lambda b: 0,
        public=10,
        bad=("r", 0.0),
    ),
    "fedala": Case(FedALA(batch=4, longest=12), down=lambda b: b.model, up=lambda b: b.model + W, bad=("s", 0)),
    "knn-per": Case(KNNPer(batch=4, k=3), down=lambda b: b.model, up=lambda b: b.model + W, bad=("k", 0)),
    "hypcluster": Case(HypCluster(batch=4, q=3), down=lambda b: 3 * b.model, up=lambda b: b.model + 4 + W, bad=("q", 0)),
    "ifca": Case(IFCA(batch=4, epochs=1, k=3), down=lambda b: 3 * b.model, up=lambda b: b.model + 4 + W),
    "ifca-gradient": Case(
        IFCA(k=3, averaging="gradient", shared=1),
        down=lambda b: b.shared(1) + 3 * b.private(1),  # of two blocks the first is common
        up=lambda b: b.model + 4 + W,
        bad=("averaging", "median"),
    ),
    "fedprox+ft": Case(
        FineTune(FedProx(batch=4, mu=1.0), what="head", epochs=2, rate=0.1), down=lambda b: b.model, up=lambda b: b.model + W, bad=("ft_what", "tail")
    ),
    "fedavg+adam": Case(get("fedavg+adam")(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("server_tau", 0.0)),
    "fedper+momentum": Case(get("fedper+momentum")(batch=4), down=lambda b: b.shared(1), up=lambda b: b.shared(1) + W, bad=("server_lr", 0.0)),
    "moon+yogi": Case(get("moon+yogi")(batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("server_beta1", 1.0)),
    "apfl+clustered": Case(  # clustered in the first round
        Clustered(APFL(batch=4), k=2, epochs=1, batch=4), down=lambda b: b.model, up=lambda b: b.model + W, bad=("cluster_k", 0)
    ),
    "scaffold+clustered": Case(
        Clustered(Scaffold(batch=4), threshold=0.9, epochs=1, batch=4), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W, bad=("cluster_metric", "l3")
    ),
    "scaffold+ft": Case(FineTune(Scaffold(batch=4), steps=3), down=lambda b: 2 * b.model, up=lambda b: 2 * b.model + W, bad=("ft_lr", -1.0)),
    "moon+ft": Case(FineTune(MOON(batch=4)), down=lambda b: b.model, up=lambda b: b.model + W, bad=("ft_epochs", -1)),
    "per-fedavg+ft": Case(FineTune(PerFedAvg(batch=4, steps=3), rate=0.1), down=lambda b: b.model, up=lambda b: b.model + W, bad=("ft_lr", 0.0)),
    "fedper+ft": Case(FineTune(FedPer(batch=4), what="head"), down=lambda b: b.shared(1), up=lambda b: b.shared(1) + W, bad=("ft_steps", -1)),
    "fedmd+ft": Case(
        FineTune(FedMD(public_epochs=1, private_epochs=1, private_batch=4, alignment=6, digest_batch=4, revisit_epochs=1), rate=0.05, batch=4),
        down=lambda b: 6 * 4 + 6 * b.net.outputs * 4,
        up=lambda b: 6 * b.net.outputs * 4 + W,
        models=("mlp:6", "softmax"),
        public=10,
        bad=("ft_batch", -1),
    ),
}
