"""`lowtide classify --report`: one page to look at, which needs nothing but itself.

Comes in: results, as they come. `gathered` keeps what the page shows of them, within bounds; `thumbnails` makes
pictures small, `plots` draws, `page` fills `page.html`.
Goes out: an HTML file. Next: a browser, or a colleague's mail.
"""

import logging

# It tells of fonts and caches that it makes, while it is imported.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
