/*
 * report_style.c
 *		The style sheet of dbopt_report().
 *
 * Plain ASCII, and nothing in it needs escaping: it goes into the page as it
 * is.  Narrow windows first; dark colours for the screen alone, so that paper
 * stays white.
 */
#include "postgres.h"

#include "api/report.h"
#include "utils/memutils.h"

static const char colours[] =
":root{--bg:#f4f6f8;--card:#fff;--ink:#1a2129;--dim:#5b6773;--edge:#dbe1e7;--soft:#eef1f4;"
"--good:#1f7a4d;--goodbg:#e2f3ea;--warn:#8a5a00;--warnbg:#fdf0d2;--bad:#b3261e;--badbg:#fbe4e2;"
"--accent:#2a62c4;--accentbg:#e4edfb;--p95:#7d9fe0;--p99:#b9c9ea;--bar:#3f9a6c}\n"
"@media screen and (prefers-color-scheme:dark){:root{--bg:#0e1216;--card:#171d23;--ink:#e4e9ee;--dim:#97a3af;--edge:#2b343d;--soft:#1f262d;"
"--good:#6fd3a0;--goodbg:#153325;--warn:#f0c264;--warnbg:#3a2d10;--bad:#ff9a92;--badbg:#45201d;"
"--accent:#8fb5ff;--accentbg:#1b2c4a;--p95:#5679bd;--p99:#3a5282;--bar:#4aa87a}}\n";

static const char layout[] =
"*{box-sizing:border-box}\n"
"body{margin:0 auto;padding:16px;max-width:1180px;background:var(--bg);color:var(--ink);"
"font:15px/1.45 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",sans-serif;"
"-webkit-text-size-adjust:100%;overflow-wrap:anywhere}\n"
"h1,h2,h3,p,dl,dd,figure{margin:0}\n"
"h1{font-size:26px;line-height:1.2}h2{font-size:18px;margin-bottom:8px}h3{font-size:15px}\n"
"header{display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;margin-bottom:12px}\n"
"header .sub{flex-basis:100%}header .badge{font-size:15px;padding:3px 12px}\n"
".brand{color:var(--accent);font-weight:700;letter-spacing:.02em}\n"
".sub{color:var(--dim);font-size:13px}p.sub{font-weight:400}\n"
"code{font:13px/1.4 ui-monospace,\"SF Mono\",Menlo,Consolas,\"DejaVu Sans Mono\",monospace;background:var(--soft);border-radius:4px;padding:1px 4px}\n"
"section,.tiles>div{background:var(--card);border:1px solid var(--edge);border-radius:10px}\n"
"section{padding:14px 16px;margin-top:14px}\n"
"a{color:var(--accent)}nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin-top:12px;font-size:14px}\n"
".banner{border-radius:10px;padding:10px 14px;margin-bottom:12px;background:var(--soft)}\n"
".banner.warn{background:var(--warnbg)}.banner.bad{background:var(--badbg)}\n"
".badge{display:inline-block;border-radius:99px;padding:0 8px;font-size:13px;font-weight:600;white-space:nowrap;background:var(--soft);color:var(--dim)}\n"
".badge.good{background:var(--goodbg);color:var(--good)}.badge.warn{background:var(--warnbg);color:var(--warn)}"
".badge.bad{background:var(--badbg);color:var(--bad)}.badge.accent{background:var(--accentbg);color:var(--accent)}\n"
".tiles{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}\n"
".tiles>div{padding:10px 14px}.tiles dt{color:var(--dim);font-size:13px}\n"
".tiles dd{font-size:24px;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}\n"
".tiles .sub{display:block;font-weight:400;line-height:1.35}\n"
".tile.bad dd,b.bad{color:var(--bad)}.tile.warn dd{color:var(--warn)}\n"
".checks{display:grid;gap:8px}.checks dt{font-weight:600}.checks dd{color:var(--dim);font-size:14px}\n"
".lead,h2+p.sub{margin-bottom:10px}\n"
".empty{color:var(--dim);padding:8px 0}\n"
"details{margin-top:10px}summary{cursor:pointer;color:var(--accent);font-size:14px}\n"
".counts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:2px 24px;margin-top:6px;font-size:14px}\n"
".counts div{display:flex;justify-content:space-between;gap:8px}.counts dd{font-variant-numeric:tabular-nums}\n";

static const char tables[] =
"table{border-collapse:collapse;width:100%;font-size:14px}\n"
"th,td{text-align:left;vertical-align:top;padding:6px 12px 6px 0;border-top:1px solid var(--edge)}\n"
"thead th{border-top:0;color:var(--dim);font-size:12px;font-weight:600;vertical-align:bottom}\n"
"th:last-child,td:last-child{padding-right:0}\n"
".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
".quiet{color:var(--dim)}.name{font-weight:600}tbody th{font-weight:400}\n"
".error{font-size:13px;color:var(--dim);display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:4;overflow:hidden}\n"
".wide{overflow-x:auto}.wide table{min-width:460px}.wide td,.wide th{overflow-wrap:normal}\n"
".hour{width:150px}#handlers thead th:first-child{width:36%}\n"
"@media screen and (max-width:760px){\n"
".cards thead{position:absolute;clip-path:inset(50%);height:1px;overflow:hidden}\n"
".cards,.cards tbody{display:block}\n"
".cards tr{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:6px 12px;padding:10px 0;border-top:1px solid var(--edge)}\n"
".cards th,.cards td{display:block;padding:0;border:0;text-align:left;white-space:normal}\n"
".cards tbody th,.cards .hour,.cards td:not(.n){grid-column:1/-1}.hour{width:auto}\n"
".cards td[data-label]::before{content:attr(data-label);display:block;color:var(--dim);font-size:12px}\n"
".cards .hour::before{display:none!important}.cards td.quiet,.cards td:empty{display:none}}\n";

static const char charts[] =
".charts{display:grid;gap:16px 32px}\n"
"figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 16px;margin-bottom:8px}\n"
".key{font-size:13px;color:var(--dim);white-space:nowrap;margin-left:8px}\n"
".key::before{content:\"\";display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px;background:currentColor}\n"
".key.good::before{background:var(--bar)}.key.bad::before{background:var(--bad)}.key.accent::before,.key.p50::before{background:var(--accent)}"
".key.p95::before{background:var(--p95)}.key.p99::before{background:var(--p99)}"
".key.limit::before{background:none;border-top:2px dashed var(--dim);height:0;border-radius:0;vertical-align:middle}\n"
".plot{display:grid;grid-template-columns:auto minmax(0,1fr);gap:4px 8px}\n"
".plot svg{width:100%;height:150px;display:block}\n"
".y{display:flex;flex-direction:column;justify-content:space-between;margin:-8px 0;text-align:right;font-size:12px;line-height:16px;color:var(--dim);font-variant-numeric:tabular-nums;white-space:nowrap}\n"
".x{grid-column:2;display:flex;justify-content:space-between;font-size:12px;color:var(--dim);font-variant-numeric:tabular-nums;white-space:nowrap}\n"
"svg .good{fill:var(--bar)}svg .bad{fill:var(--bad)}svg .warn{fill:var(--warn)}svg .accent{fill:var(--accent)}\n"
"svg .line{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}\n"
"svg .grid{stroke:var(--edge);stroke-width:1}svg .base{stroke:var(--dim);stroke-width:1;opacity:.6}\n"
"svg .limit{stroke:var(--dim);stroke-dasharray:5 4;stroke-width:1.5}svg .line.bad{stroke:var(--bad)}\n"
"svg .p50{stroke:var(--accent)}svg .p95{stroke:var(--p95)}svg .p99{stroke:var(--p99)}\n"
"svg .hit{fill:transparent}svg .hit:hover{fill:var(--dim);opacity:.18}\n"
".spark{display:block;width:100%;height:28px}\n"
".lane{padding:6px 0}.lane svg{display:block;width:100%;height:14px;margin-top:4px;border-radius:4px;background:var(--soft)}\n"
".lane svg .good{fill:var(--goodbg)}.lane svg .warn{fill:var(--warn)}\n"
"#breakers h3{margin-top:12px}#breakers td:nth-child(2){width:34%}time{white-space:nowrap}\n"
"footer{margin-top:16px}\n"
"@media print,(min-width:761px){.tiles{grid-template-columns:repeat(4,minmax(0,1fr))}.charts{grid-template-columns:repeat(2,minmax(0,1fr))}.checks{grid-template-columns:repeat(3,minmax(0,1fr));gap:10px 24px}}\n";

static const char paper[] =
"@media print{body{max-width:none;padding:0;background:#fff;font-size:12px;print-color-adjust:exact;-webkit-print-color-adjust:exact}"
"nav,details{display:none}section{break-inside:auto;border:0;padding:0}tr,figure,.lane,.checks div{break-inside:avoid}h2,h3,h2+p{break-after:avoid}"
"table,.checks dd{font-size:12px}.badge,.sub,.error,code{font-size:11px}header .badge{font-size:13px}.error{display:block}.hour{width:90px}th,td{padding-right:8px}thead{display:table-header-group}}\n";

const char *
dbopt_report_style(void)
{
	static char *style = NULL;

	if (style == NULL)
		style = MemoryContextStrdup(TopMemoryContext,
									psprintf("%s%s%s%s%s", colours, layout, tables, charts,
											 paper));
	return style;
}
