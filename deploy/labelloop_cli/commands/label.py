"""Define ``labelloop label``: list requests that wait for annotators, and submit or change annotation results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labelloop_cli.commands.arguments import AsJson, ListByDefault, RunId
from labelloop_cli.output.interrupts import carry_out

app = typer.Typer(help="Label by hand: see what is asked for, send answers.", no_args_is_help=True)

annotators = typer.Typer(
    cls=ListByDefault, help="Say who is who among annotators, and who takes part.", no_args_is_help=False
)
app.add_typer(annotators, name="annotators")

Run = Annotated[str, typer.Option("--run", metavar="RUN", help="The run.", show_default=False)]
AllOpen = Annotated[bool, typer.Option("--all-open", help="All runs that wait for people's labels.")]
Samples = Annotated[list[str], typer.Argument(help="The samples, by name or id.", show_default=False)]
Who = Annotated[str, typer.Option(help="Who says so.", show_default="the user who is logged in")]


@app.command("open")
def open_samples(
    run_id: RunId,
    output: Annotated[Path, typer.Option("--output", "-o", help="A CSV to fill in.")] = Path("to_label.csv"),
    images: Annotated[Path | None, typer.Option(help="Also write each picture into this folder.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a CSV although classes are filled in.")
    ] = False,
) -> None:
    """Write what waits for a label to a CSV.

    Its columns are id, the sample's name if it has one, and class, which is empty; texts and rows are there too.
    Text that a spreadsheet would take for a formula has an apostrophe in front; `labelloop label submit` knows that.
    """
    from labelloop_cli.operations.open_samples import open_

    carry_out(open_(run_id, output, images, replace=replace))


@app.command()
def guidelines(run_id: RunId) -> None:
    """Print how the samples of a run are to be labelled."""
    from labelloop_cli.operations.open_samples import show_guidelines

    carry_out(show_guidelines(run_id))


@app.command()
def submit(
    run_id: RunId,
    answers: Annotated[
        Path,
        typer.Argument(
            help="A CSV with the columns id or name, and class or class_name; rows without a class are left out."
        ),
    ],
    annotator: Annotated[str, typer.Option(help="Who labelled.", show_default="the user who is logged in")] = "",
) -> None:
    """Send answers. All or none: one bad row, and nothing is recorded."""
    from labelloop_cli.operations import label

    carry_out(label.submit(run_id, answers, annotator))


@app.command()
def skip(
    run_id: RunId,
    samples: Samples,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="They are no samples: broken, empty, of another kind.")
    ] = False,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    annotator: Who = "",
) -> None:
    """Give samples no label: others are asked for instead."""
    from labelloop_cli.operations import label

    carry_out(label.skip(run_id, samples, annotator, comment, rejected=rejected))


@app.command()
def revise(
    run_id: RunId,
    sample: Annotated[str, typer.Argument(help="The sample, by name or id.", show_default=False)],
    class_: Annotated[
        str, typer.Argument(metavar="CLASS", help="Its class, by name or number from 0.", show_default=False)
    ],
    annotator: Who = "",
) -> None:
    """Say another class of a sample than before. The next model is trained with it."""
    from labelloop_cli.operations import label

    carry_out(label.revise(run_id, sample, class_, annotator))


@app.command()
def withdraw(run_id: RunId, samples: Samples, annotator: Who = "") -> None:
    """Take labels back. A sample of the batch that is open is asked for again; others leave the training set."""
    from labelloop_cli.operations import label

    carry_out(label.withdraw(run_id, samples, annotator))


@app.command()
def cancel(
    run_id: RunId,
    samples: Samples,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    annotator: Who = "",
) -> None:
    """Take requests back: others are asked for in their place."""
    from labelloop_cli.operations import label

    carry_out(label.cancel(run_id, samples, annotator, comment))


@annotators.command("list")
def list_annotators(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="The run; all where none is given.")] = "",
    json: AsJson = False,
) -> None:
    """Show the people behind the names, and how they did."""
    from labelloop_cli.operations.annotators import show_annotators

    carry_out(show_annotators(run_id, as_json=json))


@annotators.command()
def alias(
    name: Annotated[str, typer.Argument(help="One of the person's names.", show_default=False)],
    is_: Annotated[
        str, typer.Option("--is", metavar="OTHER", help="The name they are listed under.", show_default=False)
    ],
    run: Run = "",
    all_: AllOpen = False,
    annotator: Who = "",
) -> None:
    """Declare that two names are one person's, who has one vote.

    It applies to answers that were given before too. `--is` with the same name makes it a person of its own again.
    """
    from labelloop_cli.operations.annotators import declare_alias

    carry_out(declare_alias(name, is_, run, annotator, all_open=all_))


@annotators.command()
def remove(
    name: Annotated[str, typer.Argument(help="The person, by any name of theirs.", show_default=False)],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Withdraw what they said too: it is asked again in the open batch.")
    ] = False,
    run: Run = "",
    all_: AllOpen = False,
    annotator: Who = "",
) -> None:
    """Give somebody no more requests, and refuse their results. What they said holds."""
    from labelloop_cli.operations.annotators import remove_annotator

    carry_out(remove_annotator(name, run, annotator, withdraw=withdraw, all_open=all_))


@annotators.command()
def restore(
    name: Annotated[str, typer.Argument(help="The person, by any name of theirs.", show_default=False)],
    run: Run = "",
    all_: AllOpen = False,
    annotator: Who = "",
) -> None:
    """Let somebody who was removed take part again. What was withdrawn does not come back."""
    from labelloop_cli.operations.annotators import restore_annotator

    carry_out(restore_annotator(name, run, annotator, all_open=all_))


@app.command()
def resend(
    run_id: RunId,
    samples: Annotated[
        list[str] | None, typer.Argument(help="The samples, by name or id; all that the tool has where none is given.")
    ] = None,
) -> None:
    """Ask the tool again now for what it has not answered."""
    from labelloop_cli.operations import label

    carry_out(label.resend(run_id, samples or []))


@app.command()
def backlog(
    run_id: Annotated[str, typer.Argument(help="The run; all where none is given.")] = "", json: AsJson = False
) -> None:
    """What waits for people, and how they did."""
    from labelloop_cli.operations.backlog import show_backlog

    carry_out(show_backlog(run_id, as_json=json))


@app.command()
def contradicted(run_id: RunId, json: AsJson = False) -> None:
    """Show samples whose label a later answer contradicts.

    First comes what stands, then what was said later. It changes no label: `labelloop label revise` does.
    """
    from labelloop_cli.operations import label

    carry_out(label.show_contradicted(run_id, as_json=json))


@app.command()
def dead(
    run_id: Annotated[str, typer.Argument(help="The run; all where none is given.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Show them all, not the newest alone.")] = False,
    discard: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Put this one aside for good; may be said again.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show results that could not be taken, or put some aside.

    They came from the tools that people label in; the newest is first.
    """
    from labelloop_cli.operations.backlog import discard_dead, show_dead

    carry_out(discard_dead(discard) if discard else show_dead(run_id, all_=all_, as_json=json))


@app.command()
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Their ids; all where none is given.")] = None,
    run_id: Annotated[str, typer.Option("--run", metavar="RUN", help="Only those of this run.")] = "",
    renamed: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NEW=OLD",
            help="Read the unknown class NEW as the run's class OLD; may be said again. Without ids, only those.",
        ),
    ] = None,
) -> None:
    """Try dead letters again."""
    from labelloop_cli.operations.backlog import replay_dead

    carry_out(replay_dead(letter_ids or [], run_id, renamed or []))


@app.command("accept-withdrawals")
def accept_withdrawals(
    run_id: RunId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Withdraw many results that are gone from the tool.

    They are shown first. Results that go missing in an annotation tool many at once still count before that.
    """
    from labelloop_cli.operations import backlog

    ask = None if yes else lambda count: typer.confirm(f"Withdraw {count} results?")
    carry_out(backlog.accept_withdrawals(run_id, ask))
