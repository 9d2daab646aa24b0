// The page's style sheet. Colours are variables, so that one set of pictures serves a light and a dark reader.
#pragma once

#include <string_view>

namespace phitune {

inline constexpr std::string_view html_style = R"(
:root { color-scheme: light dark; --back: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #5b6470; --line: #d9dde3; --warn: #8a4b00; --warnback: #fff4e0;
  --c0: #2f6fb5; --c1: #d97706; --c2: #2f9e62; --c3: #8250c4; --c4: #c8433a; --c5: #0f8b8d; --c6: #8a5a2b; --c7: #c2458f; --c8: #6b7280; --c9: #7a8b1f; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --panel: #1c2026; --ink: #e6e9ed; --soft: #9aa4b0; --line: #343b44; --warn: #ffcf8a; --warnback: #33270f;
  --c0: #6ba6e8; --c1: #f0a04b; --c2: #5cc98d; --c3: #b18cf0; --c4: #f0837b; --c5: #4cc3c5; --c6: #c99a66; --c7: #ea86c2; --c8: #a3acb9; --c9: #b7c65a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1240px; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 4px; font-size: 26px; } h2 { margin: 36px 0 8px; font-size: 21px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
h3 { margin: 26px 0 6px; font-size: 16px; } p { margin: 6px 0; } .soft { color: var(--soft); } ul { padding-left: 20px; margin: 6px 0; }
.note { background: var(--warnback); color: var(--warn); border-left: 4px solid var(--c1); padding: 8px 12px; margin: 10px 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 10px; margin: 12px 0; } .tile { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 8px 14px; }
.tile b { display: block; font-size: 20px; } .tile span { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13.5px; margin: 6px 0 12px; } th, td { padding: 4px 8px; text-align: left; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } td:last-child { min-width: 150px; } td.u { white-space: nowrap; font-size: 12.5px; }
tr.won td { font-weight: 600; } .tag { color: var(--warn); font-size: 12px; }
.pictures { display: flex; flex-wrap: wrap; gap: 8px 24px; } figure { margin: 8px 0; flex: 1 1 340px; max-width: 780px; }
dl { columns: 2 400px; column-gap: 32px; } figcaption { font-weight: 600; font-size: 14px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 10px 0; padding: 4px 14px; } summary { cursor: pointer; padding: 6px 0; } summary b { margin-right: 8px; }
dt { font-weight: 600; break-after: avoid; } dd { margin: 0 0 8px; color: var(--soft); break-inside: avoid; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg text.small { fill: var(--soft); font-size: 11px; }
svg text.name { font-size: 12.5px; } svg text.figure { font-size: 12px; } svg text.inside { fill: #ffffff; font-size: 11px; font-weight: 600; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--soft); } .mark { stroke: var(--ink); stroke-width: 1.5; }
.near { fill: var(--c2); } .far { fill: var(--c1); }
.c0 { fill: var(--c0); stroke: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); } .c2 { fill: var(--c2); stroke: var(--c2); } .c3 { fill: var(--c3); stroke: var(--c3); }
.c4 { fill: var(--c4); stroke: var(--c4); } .c5 { fill: var(--c5); stroke: var(--c5); } .c6 { fill: var(--c6); stroke: var(--c6); } .c7 { fill: var(--c7); stroke: var(--c7); }
.c8 { fill: var(--c8); stroke: var(--c8); } .c9 { fill: var(--c9); stroke: var(--c9); } .won { fill: var(--c4); stroke: var(--ink); stroke-width: 1.5; } .limit { fill: var(--c8); stroke: var(--c8); }
rect[class^=c], rect.limit { stroke: none; } .hollow, rect.hollow { fill: var(--back); stroke-width: 1.5; } rect.c0.hollow { stroke: var(--c0); } rect.c1.hollow { stroke: var(--c1); } rect.c2.hollow { stroke: var(--c2); }
.line { fill: none; stroke-width: 2; } .level { stroke-dasharray: 5 4; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) { svg text.inside { fill: #14171b; } }
)";

}  // namespace phitune
