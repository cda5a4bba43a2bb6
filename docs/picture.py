"""Write what `rsq status` shows of the pools in a runtime directory as a picture.

python docs/picture.py RUNTIME_DIR > docs/status.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from rsq.supervisor.status import Filters, find, render

console = Console(record=True, width=122, file=io.StringIO(), force_terminal=True)
views, _ = find([Path(sys.argv[1])], Filters())
for view in views:
    console.print(render(view))
picture = console.export_svg(title="rsq status")
picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # a picture fetches nothing
sys.stdout.write(re.sub(r"<!--.*?-->\s*", "", picture).replace("Fira Code,", ""))
