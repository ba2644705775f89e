"""What each operator does to positions: one table of rules, a file per kind of operator.

An operator that is not in the table keeps all it touches as it is; `lilliput profile` names it.
"""

from lilliput.shapes.flow import Rule
from lilliput.shapes.rules import layout, norms, pointwise, products, recurrent, windows

RULES: dict[str, Rule] = {
    **pointwise.RULES,
    **products.RULES,
    **norms.RULES,
    **layout.RULES,
    **windows.RULES,
    **recurrent.RULES,
}
