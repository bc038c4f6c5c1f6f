"""Solvers of the matrix inequality. They know structure and numbers, never networks."""

from .closed_form import ClosedForm as ClosedForm
from .closed_form import Scaled as Scaled
from .closed_form import compress as compress
from .closed_form import scale as scale
from .dual_scaling import DualScaling as DualScaling
from .gradient_system import GradientSystem as GradientSystem
from .inequality import Inequality as Inequality
from .inequality import SlopeConstraint as SlopeConstraint
from .interior_point import InteriorPoint as InteriorPoint
from .result import Cost as Cost
from .result import Limits as Limits
from .result import Progress as Progress
from .result import Solution as Solution
from .result import Status as Status
