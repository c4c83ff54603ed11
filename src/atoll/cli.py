"""The command `atoll`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from atoll import cli_advise, cli_study, cli_verify
from atoll.core.errors import AtollError

app = typer.Typer(
    name="atoll",
    help="Personalized federated learning: compare methods honestly and fast.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Look at data before training.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Text = str | None
Data = Annotated[Text, typer.Option("--data", help="A source (atoll data list), or a .csv or .parquet file of your own.")]
Path_ = Annotated[Text, typer.Option("--path", help="Where a source's files are.")]
Client = Annotated[Text, typer.Option("--client", help="CSV, Parquet: the column that names the client.")]
Label = Annotated[Text, typer.Option("--label", help="CSV, Parquet: the column to predict.")]
TaskName = Annotated[Text, typer.Option("--task", help="CSV, Parquet: classification or regression.")]
Option = Annotated[list[str] | None, typer.Option("--option", help="Another option of the source, as in films=300 (docs/data.md); several allowed.")]
Skew = Annotated[list[str] | None, typer.Option("--skew", help="iid, dirichlet:0.1, swap:4, noise:0.1, flip:0.2, ... (atoll data list); several compose.")]
Clients = Annotated[int | None, typer.Option("--clients", help="Number of clients, where the source has no natural ones.")]
Unseen = Annotated[float | None, typer.Option("--unseen", help="Share of clients held out of training.")]
Public = Annotated[float | None, typer.Option("--public", help="Share (below 1) or number of rows given away as public data.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use at most so many rows.")]
Resample = Annotated[Text, typer.Option("--resample", help="smote, adasyn or tomek: every client evens out the labels of its own train rows.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of split, models, client schedule and batches.")]


@app.command()
def run(
    spec: Annotated[Path | None, typer.Argument(help="A TOML specification; options win over it.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", "-m", help="A method (atoll methods), all, or module:Class; several allowed.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A hyperparameter: lr=0.1 for all that have it, fedprox.mu=0.1 for one.")] = None,
    data: Data = None,
    path: Path_ = None,
    client: Client = None,
    label: Label = None,
    task: TaskName = None,
    option: Option = None,
    skew: Skew = None,
    clients: Clients = None,
    unseen: Unseen = None,
    public: Public = None,
    limit: Limit = None,
    resample: Resample = None,
    seed: Seed = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="softmax, mlp:200, cnn, ...; several: clients take them in turn.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds of training.")] = None,
    per_round: Annotated[int | None, typer.Option("--per-round", help="Clients asked per round; default all.")] = None,
    select: Annotated[Text, typer.Option("--select", help="Who is asked: uniform, weighted, tifl, fedsae, cucb, favor; settings as in tifl:tiers=3.")] = None,
    eval_every: Annotated[int | None, typer.Option("--eval-every", help="Rounds between evaluations.")] = None,
    mix: Annotated[int | None, typer.Option("--mix", help="Score every client's model on so many test rows of all clients, too: what it forgets.")] = None,
    auc: Annotated[bool | None, typer.Option("--auc", help="Areas under the ROC curve also with more than two labels (slower to score).")] = None,
    dropout: Annotated[float | None, typer.Option("--dropout", help="Share of asked clients that can't be reached.")] = None,
    stragglers: Annotated[float | None, typer.Option("--stragglers", help="Share of clients that manage part of the work only.")] = None,
    devices: Annotated[Text, typer.Option("--devices", help="How fast clients are: same, tiers, lognormal, varying, or a .csv file.")] = None,
    deadline: Annotated[float | None, typer.Option("--deadline", help="Simulated seconds for which the server waits for answers.")] = None,
    engine: Annotated[Text, typer.Option("--engine", help="simulate (compiled), loop (for debugging) or wire (through messages).")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Worker threads of the simulator; default all cores.")] = None,
    log: Annotated[list[str] | None, typer.Option("--log", help="Also log to tensorboard or mlflow, round by round; several allowed.")] = None,
    baselines: Annotated[bool | None, typer.Option("--baselines/--no-baselines", help="Add Majority, Local, FedAvg and FedAvg+FT.")] = None,
    verify: Annotated[bool | None, typer.Option("--verify", help="Also check the identities of the methods (atoll verify) on these data.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default runs/<time>-<data>.")] = None,
) -> None:
    """Compare methods: train them on the same clients, print the table, write the report.

    Without any option it runs the demonstration on scikit-learn's digits, split by the 14 forms they were written on.
    """
    from atoll.study.spec import read_spec

    given = _data_changes(data, path, client, label, task, option, skew, clients, unseen, public, limit, resample)
    changes = _present(
        seed=seed,
        rounds=rounds,
        per_round=per_round,
        select=select,
        eval_every=eval_every,
        mix=mix,
        auc=auc,
        dropout=dropout,
        stragglers=stragglers,
        devices=devices,
        deadline=deadline,
        engine=engine,
        threads=threads,
        baselines=baselines,
        verify=verify,
    )
    if given:
        changes["data"] = given
    if model:
        changes["model"] = model
    if log:
        changes["log"] = log
    if method:
        changes["methods"] = [{"name": name} for name in method]
    made = _with_settings(read_spec(spec, changes), set_ or [])

    from atoll.api import new_folder
    from atoll.study.run import make_plan

    plan = make_plan(made)
    folder = new_folder(made, out)
    told = spec.with_name("tuning.json") if spec is not None else None
    if told is not None and told.exists():  # the specification is what tuning left: its account goes into the report
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tuning.json").write_bytes(told.read_bytes())
    _carry_out(plan, folder)


@app.command()
def resume(folder: Annotated[Path, typer.Argument(help="The folder of a run that was stopped.")]) -> None:
    """Continue a run that was stopped; it ends exactly as it would have without the stop."""
    from atoll.study.run import open_plan

    _carry_out(open_plan(folder), folder)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of one study.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file; default report.html in the first run's folder.")] = None,
) -> None:
    """Print the table of runs, or of a study, and write their report as one HTML file."""
    from rich.console import Console

    from atoll.report.html import write_report
    from atoll.report.table import print_table

    studies = [folder for folder in runs if (folder / "study.toml").exists()]
    if studies and len(runs) > 1:
        raise AtollError(f"{studies[0]} is a study, which has a report of its own. Give it alone, or put several beside each other with `atoll compare`.")
    if studies:
        cli_study.show(studies[0], Console(), out)
        return
    console = Console()
    for folder in runs:
        if not (folder / "status.json").exists():
            raise AtollError(f"{folder} is no run: it has no status.json. Give the folder that `atoll run` named.")
        print_table(folder, console)
    console.print(f"Report: {write_report(runs, out)}")


@app.command()
def advise(
    source: Annotated[str, typer.Argument(help="A source (atoll data list), or a .csv or .parquet file of your own.")] = "digits",
    path: Path_ = None,
    client: Client = None,
    label: Label = None,
    task: TaskName = None,
    option: Option = None,
    skew: Skew = None,
    clients: Clients = None,
    unseen: Unseen = None,
    public: Public = None,
    limit: Limit = None,
    resample: Resample = None,
    seed: Seed = None,
    model: Annotated[Text, typer.Option("--model", help="softmax, mlp:200, cnn, ...; default one that suits the data.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of the pilot.")] = 40,
    per_round: Annotated[int | None, typer.Option("--per-round", help="Clients asked per round; default all.")] = None,
    devices: Annotated[Text, typer.Option("--devices", help="For simulated times: same, tiers, lognormal, varying, or a .csv file.")] = None,
    private: cli_advise.Private = None,
    minutes: cli_advise.Minutes = 2.0,
    splits: cli_advise.Splits = None,
    worth: cli_advise.Worth = None,
    rates: cli_advise.Rates = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the pilots; default runs/<time>-<data>.")] = None,
    json: cli_advise.Json = False,
) -> None:
    """Say whether to personalize, with which family of methods and at what cost, from a pilot of some minutes."""
    from atoll.study.spec import read_spec

    changes = _present(seed=seed, rounds=rounds, per_round=per_round, devices=devices)
    changes["data"] = _data_changes(source, path, client, label, task, option, skew, clients, unseen, public, limit, resample)
    if model:
        changes["model"] = [model]
    spec = read_spec(None, changes)
    cli_advise.carry_out(spec, private=private, minutes=minutes, splits=splits, worth=worth, rates=rates, out=out, json=json)


@app.command()
def verify(
    method: Annotated[list[str] | None, typer.Argument(help="Methods (atoll methods); default all of which an identity is known.")] = None,
    data: Data = None,
    path: Path_ = None,
    client: Client = None,
    label: Label = None,
    task: TaskName = None,
    option: Option = None,
    skew: Skew = None,
    clients: Clients = None,
    unseen: Unseen = None,
    public: Public = None,
    limit: Limit = None,
    resample: Resample = None,
    seed: Seed = None,
    set_: cli_verify.Set = None,
    model: Annotated[Text, typer.Option("--model", help="softmax, mlp:200, cnn, ...; default one that suits the data.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of training of each side.")] = 2,
    json: cli_verify.Json = False,
) -> None:
    """Check exact identities of methods ("FedProx with mu=0 is FedAvg") on data and with a model of your own; exit code 1 where one fails.

    Both sides are trained with the same seed, and every client's scores are compared after every round. All of them take some five minutes on the digits.
    """
    from atoll.study.spec import read_spec

    changes = _present(seed=seed)
    changes["data"] = _data_changes(data, path, client, label, task, option, skew, clients, unseen, public, limit, resample)
    if model:
        changes["model"] = [model]
    cli_verify.carry_out(_with_settings(read_spec(None, changes), set_ or []), method or None, rounds, json=json)


app.command()(cli_study.study)
app.command()(cli_study.compare)
app.command()(cli_study.tune)


@app.command()
def methods(name: Annotated[Text, typer.Argument(help="A method: prints its page.")] = None) -> None:
    """List the methods, or explain one."""
    from atoll.listing import print_method, print_methods

    print_methods() if name is None else print_method(name)


@app.command()
def models() -> None:
    """List the models."""
    from atoll.listing import print_models

    print_models()


@data_app.command("list")
def data_list() -> None:
    """List the sources of data, and the skews."""
    from atoll.listing import print_sources

    print_sources()


@data_app.command("show")
def data_show(
    source: Annotated[str, typer.Argument(help="A source, or a .csv or .parquet file.")] = "digits",
    path: Path_ = None,
    client: Client = None,
    label: Label = None,
    task: TaskName = None,
    option: Option = None,
    skew: Skew = None,
    clients: Clients = None,
    unseen: Unseen = None,
    public: Public = None,
    limit: Limit = None,
    resample: Resample = None,
    seed: Seed = None,
    private: Annotated[float | None, typer.Option("--private", help="Also measure how clients differ from noised counts alone, with this epsilon.")] = None,
) -> None:
    """Print the data sheet: clients, sizes, labels per client, majority accuracy, hash of the split, how clients differ."""
    from rich.console import Console

    from atoll.data.sheet import print_sheet
    from atoll.study.spec import load_data, read_spec

    changes = _data_changes(source, path, client, label, task, option, skew, clients, unseen, public, limit, resample)
    spec = read_spec(None, {"data": changes, **_present(seed=seed)})
    if private is not None:
        from atoll.core.method import configured
        from atoll.parts.noised import Noised

        configured(Noised, {"epsilon": private})  # refuses what can't be one before rows are read
    fed, console = load_data(spec), Console()
    print_sheet(fed, console)
    if private is not None:
        from atoll.report.private import print_private
        from atoll.study.private import private_heterogeneity

        print_private(private_heterogeneity(fed, private, seed=spec.seed), console)


@data_app.command("export")
def data_export(
    source: Annotated[str, typer.Argument(help="A source, or a .csv or .parquet file.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write to.")],
    format: Annotated[str, typer.Option("--format", help="npz: which rows of the source every client has; pfllib: the rows, as PFLlib keeps them.")] = "npz",
    path: Path_ = None,
    client: Client = None,
    label: Label = None,
    task: TaskName = None,
    option: Option = None,
    skew: Skew = None,
    clients: Clients = None,
    unseen: Unseen = None,
    public: Public = None,
    limit: Limit = None,
    resample: Resample = None,
    seed: Seed = None,
) -> None:
    """Write who has which rows as an index map with its sha256 (npz), or the rows themselves in the form of PFLlib (pfllib)."""
    from atoll.core.errors import unknown
    from atoll.data.index_map import write_map
    from atoll.data.pfllib_folder import write_pfllib
    from atoll.study.spec import data_arguments, load_data, read_spec

    if format not in ("npz", "pfllib"):
        raise unknown("format", format, ("npz", "pfllib"))
    changes = _data_changes(source, path, client, label, task, option, skew, clients, unseen, public, limit, resample)
    spec = read_spec(None, {"data": changes, **_present(seed=seed)})
    fed = load_data(spec)
    written = write_map(fed, to, data_arguments(spec)) if format == "npz" else write_pfllib(fed, to)
    print(f"{fed.name}: {len(fed.names):,} clients, {len(fed.y):,} rows, written to {written}")


@data_app.command("verify")
def data_verify(file: Annotated[Path, typer.Argument(help="The map.npz of an export.")]) -> None:
    """Make the federation of an index map again from its source, and check that every client has the same rows."""
    from atoll.data.index_map import rebuilt
    from atoll.data.sheet import split_hash

    fed = rebuilt(file)
    print(f"{fed.name}: the same {len(fed.names):,} clients and {len(fed.y):,} rows here, sha256 {split_hash(fed)}")


def _carry_out(plan: Any, folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    from atoll.report.html import write_report
    from atoll.report.identities import read_identities, summary
    from atoll.report.table import print_table
    from atoll.study.run import Interrupted, execute
    from atoll.watch import Progress

    console = Console()
    fed = plan.federation
    models = ", ".join(m.name for m in plan.models)
    console.print(f"[bold]{escape(fed.name)}[/bold]: {len(fed.names)} clients, {fed.count['train'].sum():,} train rows, model {models}, run {folder}")
    try:
        with Progress(console, len(plan.entries)) as progress:
            execute(plan, folder, progress, command=" ".join(["atoll", *sys.argv[1:]]))
    except Interrupted:
        console.print(f"Stopped, and saved. Continue with: [bold]atoll resume {folder}[/bold]")
        raise typer.Exit(130) from None
    print_table(folder, console)
    found = read_identities(folder)
    if found is not None:
        console.print(f"Identities: {summary(found)}", highlight=False)
    console.print(f"Report: {write_report([folder], None)}", soft_wrap=True)


def _data_changes(
    data: Text,
    path: Text,
    client: Text,
    label: Text,
    task: Text,
    option: list[str] | None,
    skew: list[str] | None,
    clients: int | None,
    unseen: float | None,
    public: float | None,
    limit: int | None,
    resample: Text,
) -> dict[str, Any]:
    options = {**_present(path=path, client=client, label=label, task=task), **_options(option or [])}
    source = data
    if data is not None and "." in data and data.rpartition(".")[2] in ("csv", "parquet"):
        source, options["path"] = data.rpartition(".")[2], data
    changes = _present(source=source, skew=skew, clients=clients, unseen=unseen, public=public, limit=limit, resample=resample)
    if options:
        changes["options"] = options
    return changes


def _options(given: list[str]) -> dict[str, Any]:
    """name=value as options of a source: numbers, true, false and lists as JSON writes them, anything else is text. What is given several times is a list."""
    found: dict[str, list[Any]] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise AtollError(f"--option {text!r} is not of the form name=value, for instance --option films=300.")
        try:
            found.setdefault(name, []).append(json.loads(value))
        except ValueError:
            found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _with_settings(spec: Any, settings: list[str]) -> Any:
    """Puts `name=value`, `method.name=value` and `<method>.name=value` where they belong."""
    from atoll.core.errors import unknown
    from atoll.study.spec import MethodSpec

    common = dict(spec.settings)
    own: dict[str, dict[str, Any]] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        owner, dot, name = key.strip().rpartition(".")
        if not equals or not name:
            raise AtollError(f"--set {text!r} is not of the form name=value, for instance --set lr=0.1 or --set fedprox.mu=0.1.")
        if not dot or owner == "method":
            common[name] = value.strip()
        else:
            own.setdefault(owner, {})[name] = value.strip()
    chosen = [m.name for m in spec.all_methods()]
    for owner in own:
        if owner not in chosen:
            raise unknown("method of this run", owner, chosen)
    methods = tuple(MethodSpec(name=m.name, settings={**m.settings, **own.get(m.name, {})}) for m in spec.methods)
    extra = tuple(MethodSpec(name=owner, settings=values) for owner, values in own.items() if owner not in [m.name for m in spec.methods])
    return spec.model_copy(update={"settings": common, "methods": (*methods, *extra)})


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def main() -> None:
    """Entry point: errors are one line and exit code 2."""
    try:
        app()
    except AtollError as error:
        print(f"atoll: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
