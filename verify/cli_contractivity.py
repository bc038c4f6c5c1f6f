"""`netgain contractivity`, and what `netgain check` does with its certificates."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Annotated

import typer
from netgain import layers
from netgain.solvers.contractivity.logarithmic_norm import SlopeField
from netgain.solvers.contractivity.multilayer_field import MultilayerField
from netgain.solvers.contractivity.slope_branch_and_bound import SlopeBranchAndBound
from netgain.solvers.contractivity.time_dependent_field import SampledField
from netgain.solvers.result import Limits

from .cli_options import (
    Json,
    Model,
    Quiet,
    TimeLimit,
    print_json,
    read_claim,
    read_from,
    require_limits,
    require_writable,
    save,
)
from .contractivity import certificate as contractivity_certificate
from .contractivity import in_time_certificate, multilayer_certificate
from .contractivity.certificate import ContractivityCertificate, check_contractivity
from .contractivity.check import Decision, LogNormVerdict
from .contractivity.forms import contractivity_in_time, contractivity_of_layers
from .contractivity.in_time_certificate import InTimeCertificate, check_in_time
from .contractivity.json_form import contractivity_check_json, contractivity_json
from .contractivity.multilayer_certificate import MultilayerCertificate, check_multilayer_certificate
from .contractivity.report import DEFAULT_TIME_LIMIT, ContractivityReport, ContractivityStage, ContractivityVerdict
from .contractivity.report import contractivity as bound_contractivity
from .contractivity.slope_fields import slope_field
from .contractivity.terminal import show_contractivity, show_contractivity_verdict
from .interruption import Interruption
from .outcomes import ExitCode, error_console, fail, failures_explained
from .sealed_json import schema_of
from .terminal import Display, result_console

CONTRACTIVITY = (contractivity_certificate.SCHEMA, multilayer_certificate.SCHEMA, in_time_certificate.SCHEMA)
"""Schemas of the certificates that `check_field` knows."""

_Field = SlopeField | MultilayerField | SampledField
_Certificate = ContractivityCertificate | MultilayerCertificate | InTimeCertificate


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question:
    """What was asked, checked before any work."""

    model: Path
    certificate: Path | None
    level: float | None
    lower_slope: float | None
    tolerance: float
    time_limit: float
    jobs: int

    def __post_init__(self) -> None:
        require_limits(self.tolerance, self.time_limit)
        for name, value in (("--level", self.level), ("--lower-slope", self.lower_slope)):
            if value is not None and not math.isfinite(value):
                raise typer.BadParameter(f"{value} is not a finite number.", param_hint=name)
        if self.jobs == 0:
            raise typer.BadParameter("0 processes cannot work; -1 is one per core.", param_hint="--jobs")

    @property
    def target(self) -> Path:
        return self.certificate or Path(f"{self.model.stem}.contractivity.json")

    @property
    def interval_target(self) -> Path:
        """Where the certificate of the slope interval goes: beside the other."""
        return self.target.with_suffix(".interval.json")

    def on_slopes(self, field: _Field) -> _Field:
        """The field on the slopes asked about."""
        if self.lower_slope is None:
            return field
        if self.lower_slope > field.upper:
            raise typer.BadParameter(f"{self.lower_slope} is above the activation's largest slope, {field.upper:g}.",
                                     param_hint="--lower-slope")
        return field.with_lower(float(self.lower_slope))


def contractivity(
    model: Model,
    as_json: Json = False,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Where to write the certificate; that of the slope interval goes beside it.",
                     show_default="NAME.contractivity.json here"),
    ] = None,
    level: Annotated[
        float | None,
        typer.Option("--level", help="Claim that the logarithmic norm is at most this; exit code 1 unless proved.",
                     show_default="0, without a claim"),
    ] = None,
    lower_slope: Annotated[
        float | None,
        typer.Option("--lower-slope", help="The least slope of the activation.", show_default="the activation's own"),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Of the search, relative to the size of the weights.")] = 1e-6,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes for the search; -1 is one per core.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Bounds the logarithmic norm of a neural ODE u' = f(u), f being the network, and the slopes that keep a level."""
    with failures_explained():
        question = _Question(model=model, certificate=certificate, level=level, lower_slope=lower_slope,
                             tolerance=tolerance, time_limit=time_limit, jobs=jobs)
        raise typer.Exit(_answer(question, as_json, quiet))


def _answer(question: _Question, as_json: bool, quiet: bool) -> ExitCode:
    begin = time.perf_counter()
    for target in (question.target, question.interval_target):
        require_writable(target, question.model, named=question.certificate is not None)
    display = Display(error_console(), quiet)
    with Interruption() as interruption:
        with display.running():
            content, source = read_from(layers.load_field, question.model)
            field = slope_field(content)
            asked = question.on_slopes(field)
            imported = time.perf_counter() - begin
            limits = Limits(tolerance=question.tolerance, time_limit=max(question.time_limit - imported, 1e-3))
            report = _bound(asked, question, content.name, limits, display)
        interruption.shielded = True
        seconds = {"import": imported, **report.seconds, "total": time.perf_counter() - begin}
        report = dataclasses.replace(report, seconds=seconds)
        written, trouble = save(report.certificate, question.target)
        interval_written, interval_trouble = save(report.interval_certificate, question.interval_target)
        slopes = (field.lower, field.upper)
        if as_json:
            print_json(contractivity_json(report, content.digest, slopes, source, written, interval_written))
        else:
            paths = {"certificate": written, "of interval": interval_written}
            show_contractivity(result_console(), report, slopes, {label: path for label, path in paths.items() if path})
    if trouble or interval_trouble:
        fail(ExitCode.USAGE, trouble or interval_trouble)
    if interruption:
        return ExitCode.INTERRUPTED
    if question.level is None:
        return ExitCode.PROVED if report.certificate is not None else ExitCode.NOT_PROVED
    return ExitCode.PROVED if report.verdict is ContractivityVerdict.CONTRACTIVE else ExitCode.NOT_PROVED


def _bound(field: _Field, question: _Question, name: str, limits: Limits, display: Display) -> ContractivityReport:
    level = float(question.level or 0.0)

    def on_stage(stage: ContractivityStage) -> None:
        display.say(stage.value)

    if isinstance(field, MultilayerField):
        try:
            return contractivity_of_layers(field, level, name=name, limits=limits, on_stage=on_stage)
        except RuntimeError as error:
            fail(ExitCode.NUMERICAL, f"{name} could not be bounded: {error}")
    if isinstance(field, SampledField):
        return contractivity_in_time(field, level, name=name, limits=limits, on_stage=on_stage)
    search = SlopeBranchAndBound(jobs=question.jobs)
    return bound_contractivity(field, level, name=name, limits=limits, search=search, on_stage=on_stage)


def check_field(path: Path, model: Path, as_json: bool) -> None:
    """Proves a certificate of contractivity anew, or ends with the exit code that says why it does not hold up."""
    claim = read_claim(_load, path, as_json)
    content, _ = read_from(layers.load_field, model)
    field = slope_field(content)
    digest, verdict = _check(claim, field)
    slopes = (field.lower, field.upper)
    if as_json:
        print_json(contractivity_check_json(claim, digest, slopes, verdict))
    elif verdict.proved:
        show_contractivity_verdict(result_console(), content.name, field.size, claim, slopes, verdict)
    if not verdict.proved:
        other = verdict.decision is Decision.OTHER_MATRICES
        digests = f"\n  {path}: {claim.digest}\n  {model}: {digest}" if other else ""
        fail(ExitCode.REFUSED, f"Refused: {verdict.decision.value}{digests}")


def _load(path: Path) -> _Certificate:
    schema = schema_of(path)
    if schema == multilayer_certificate.SCHEMA:
        return multilayer_certificate.load_multilayer_certificate(path)
    if schema == in_time_certificate.SCHEMA:
        return in_time_certificate.load_in_time_certificate(path)
    return contractivity_certificate.load_contractivity_certificate(path)


def _check(claim: _Certificate, field: _Field) -> tuple[str, LogNormVerdict]:
    """The digest of the field's matrices, and the verdict; a field of another form has other matrices."""
    if isinstance(field, SlopeField):
        digest = contractivity_certificate.matrices_digest(field.inputs, field.outputs, field.linear)
        if isinstance(claim, ContractivityCertificate):
            return digest, check_contractivity(claim, field.inputs, field.outputs, field.linear)
    elif isinstance(field, MultilayerField):
        digest = multilayer_certificate.weights_digest(field.weights)
        if isinstance(claim, MultilayerCertificate):
            return digest, check_multilayer_certificate(claim, field.weights)
    else:
        digest = in_time_certificate.samples_digest(field)
        if isinstance(claim, InTimeCertificate):
            return digest, check_in_time(claim, field)
    return digest, LogNormVerdict(Decision.OTHER_MATRICES, "", 0.0)
