"""Questions about networks, answered with proof."""

from .certificate import Certificate as Certificate
from .certificate import CertificateError as CertificateError
from .certificate import load_certificate as load_certificate
from .check import Outcome as Outcome
from .check import Verdict as Verdict
from .check import check as check
from .contractivity.forms import contractivity_in_time as contractivity_in_time
from .contractivity.forms import contractivity_of_layers as contractivity_of_layers
from .contractivity.report import ContractivityReport as ContractivityReport
from .contractivity.report import contractivity as contractivity
from .contractivity.slope_fields import slope_field as slope_field
from .inspection import inspect as inspect
from .lipschitz import LipschitzReport as LipschitzReport
from .lipschitz import lipschitz as lipschitz
from .lower_bound import Witness as Witness
from .memory import TooLargeError as TooLargeError
