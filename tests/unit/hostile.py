# SPDX-License-Identifier: Apache-2.0
"""Hostile responses: those written by hand, and a grammar of LaTeX fragments that makes any number of them."""

import random

BOMBS = r"""
9^{9^{9^{9}}}
9^{999999999}
2^{2^{2^{2^{2^{2}}}}}
10^{10^{10}}
(-1)^{10^{10^{10}}}
0^{0^{0^{0}}}
\sqrt{9^{9^{9}}}
\sqrt[10^{9}]{2}
\sqrt[0]{2}
\sqrt[-1]{0}
2^{-10^{10}}
(1/3)^{10^8}
(1+10^{-9})^{10^9}
1.0000001^{10^{12}}
i^{i^{i^{i}}}
e^{e^{e^{e^{e}}}}
\exp(\exp(\exp(100)))
\pi^{\pi^{\pi^{\pi^{\pi}}}}
x^{x^{x^{x^{x^{x}}}}}
x^{10^{10}}
(x+y+z)^{200}
(x+1)^{1000}
(a+b+c+d+e+f+g+h)^{60}
((x+1)^{50}+1)^{50}
100000000!
((10!)!)!
3!!!!!!!!
(-5)!
(1/2)!
\binom{10^9}{10^8}
\binom{1000000}{500000}
\binom{-1}{-1}
\binom{x}{10^6}
\Gamma(10^{8})
\sin(10^{10^8})
\cos(10^{30}!)
\tan(\pi/2)
\arcsin(10^{100})
\log_{2}(3^{10^9})
\log_{0}(0)
\log_{1}(5)
\ln(0)
\ln(-1)
\log(\log(\log(\log(2))))
\int_0^1 e^{x^2}\sin(x^3)\cos(x)dx
\int\int\int x^x dx dx dx
\int_{-\infty}^{\infty} e^{-x^2} dx
\sum_{n=1}^{10^9} n^{n}
\sum_{n=1}^{\infty} \frac{1}{n}
\prod_{n=1}^{10^7} n
\prod_{n=1}^{\infty} (1+1/n^2)
\lim_{x\to 0} \frac{\sin(\sin(\sin(x)))}{x^{50}}
\lim_{n\to\infty} (1+1/n)^{n^{n}}
\frac{d^{100}}{dx^{100}} x^{x^{x}}
\begin{pmatrix}1&2\\3&4\end{pmatrix}^{100000000}
\begin{pmatrix}1&2\\3&4\end{pmatrix}^{-1}
\begin{pmatrix}0&0\\0&0\end{pmatrix}^{-1}
\begin{pmatrix}1&2\\3\end{pmatrix}
\begin{pmatrix}x^{99}&y^{99}\\z^{99}&w^{99}\end{pmatrix}^{99}
\begin{matrix}\begin{matrix}1\end{matrix}\end{matrix}
\frac{1}{0}
\frac{0}{0}
\frac{}{}
\frac{1}{\frac{1}{\frac{1}{\frac{1}{0}}}}
\frac
\frac{1}
\frac12345678901234567890
\infty-\infty
\infty^{\infty}
\frac{\infty}{\infty}
0\cdot\infty
[0,\infty)\cup(-\infty,0]
[5,1]
(1,1)
(-\infty,\infty)\setminus\{0\}
\{\}
\emptyset
\{1,1,1,1\}
\{\{\{\{1\}\}\}\}
\{x : x^2 = x^{x^x}\}
1<2<3<4<5<6<7
x<y<z<x
x=x=x=x=x
x=1=2=3
=
==
<
\le\ge\ne
a\equiv b\pmod{0}
10^{10}\mod 0
7\bmod{10^{10^{10}}}
\lfloor 10^{10^{10}} \rfloor
\lceil \pi^{100} \rceil
\gcd(10^{100},0)
\max(1,2,3,x,y,z)
||||||||x||||||||
|x|^{|x|^{|x|}}
\left|\left|\left|x\right|\right|\right|
\left(\left[\left\{x\right.\right.\right.
\left. \right.
\overline{9}
0.\overline{142857}
0.999999999999999999999999999999
1e308
1e-400
1e99999999999
0x7fffffffffffffff
1_000_000
1,,,,,2
1.2.3.4
1/2/3/4/5/6/7/8/9/0
1//2
--------1
+-+-+-+-1
1+-+-+2
\pm\pm\pm 1
1\pm 10^{10^{10}}
50%%%%%
%%%
$$$$$$
\$\$\$
\%
10\%^{10\%}
5^\circ{}^\circ
\text{\text{\text{a}}}
\text{9^{9^{9}}}
\text{import os}
\text{}
\mathbb{R}^{\mathbb{R}}
\mathrm{e}^{\mathrm{e}}
\operatorname{eval}(1)
__import__('os').system('false')
exec("raise SystemExit")
lambda: 0
os._exit(1)
sympy.factorial(10**9)
Symbol('x')**10**10
{{7*7}}
${7*7}
%s%s%s%n
../../../../etc/passwd
<script>1</script>
'; DROP TABLE rewards; --
\input{/etc/passwd}
\write18{false}
\def\x{\x\x}\x
\newcommand{\a}{\a\a}\a
\loop\iftrue\repeat
\csname x\endcsname
\catcode`\{=12
\verb|}|
\begin{document}
\end{pmatrix}
\begin{cases}x&x>0\\-x\end{cases}
\begin{align*}x&=1\\y&=2\end{align*}
\substack{1\\2}
\overbrace{1+\underbrace{2}}
\cancel{5}6
\color{red}7
\hspace{10^{9}cm}8
\phantom{9}
\stackrel{?}{=}
x_{1_{2_{3_{4}}}}
x_1_2_3
x^1^2^3
^{2}
_{2}
x^
x_
x^{}
x_{}
x'''''''
12_{3}
12_{10^{10}}
1011_2+777_8
AB_{16}
\alpha\beta\gamma\delta^{\epsilon^{\zeta^{\eta}}}
\cdot\cdot\cdot
\times
\div 0
5\div 0
\sqrt{}
\sqrt{-1}
\sqrt{\sqrt{\sqrt{\sqrt{\sqrt{x}}}}}
\sqrt{x+\sqrt{x+\sqrt{x+\sqrt{x+\sqrt{x}}}}}
\sqrt[3]{2+\sqrt{5}}+\sqrt[3]{2-\sqrt{5}}
\sqrt{2}+\sqrt{3}+\sqrt{5}+\sqrt{7}+\sqrt{11}+\sqrt{13}
\sin^{100}(x)+\cos^{100}(x)
\sin(\cos(\tan(\sin(\cos(\tan(x))))))
\sin(1)^{\cos(1)^{\tan(1)}}
\cos\frac{\pi}{65537}
x^{99}-y^{99}
\frac{x^{60}-1}{x-1}
(x-1)(x-2)(x-3)(x-4)(x-5)(x-6)(x-7)(x-8)(x-9)
\frac{1}{x-1}+\frac{1}{x-2}+\frac{1}{x-3}+\frac{1}{x-4}+\frac{1}{x-5}
123456789^{20}
1000000007\cdot 998244353
f(f(f(f(f(x)))))
f^{-1}(x)
\nabla\times\vec{F}
\hat{\hat{\hat{x}}}
\dots
1,2,\ldots,10^{10}
(1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20)
(x,(y,(z,(w,(v)))))
\angle ABC = 10^{10^{10}\circ}
12:34:56
3\frac{1}{2}\frac{1}{3}
1 2 3 4 5 6 7 8
\ \ \ \ \
\\\\\\\\
&&&&&
####
#### 42
~~~~~
""".strip().splitlines()

MADE = [  # longer than a line, or with characters that a file does not hold well
    "(" * 100 + "1" + ")" * 100,
    "{" * 120 + "1" + "}" * 120,
    r"\frac{1}{" * 30 + "2" + "}" * 30,
    r"\sqrt{" * 40 + "2" + "}" * 40,
    "2^{" * 60 + "2" + "}" * 60,
    r"\sin(" * 30 + "x" + ")" * 30,
    r"\left(" * 20 + "x" + r"\right)" * 20,
    "|x" * 60,
    "1+" * 120 + "1",
    "x+" * 120 + "y",
    "x*" * 120 + "y",
    "1/" * 120 + "3",
    "-" * 200 + "1",
    "!" * 200,
    "3" + "!" * 100,
    "%" * 200,
    "9" * 250,
    "9" * 120 + "^" + "9" * 120,
    "9" * 5000,
    r"\{" + ",".join(f"x_{{{i}}}" for i in range(30)) + r"\}",
    ",".join("1" * 100),
    "+".join(f"\\sqrt{{{i}}}" for i in range(2, 30)),
    "}{" * 100,
    "\\" * 200,
    "$" * 200,
    "\0",
    "1\0",
    "x\0y" * 20,
    "\ud800",
    "x^{\udfff}+1",
    "\ud83d\ude00",
    "\u202e2+x",
    "\u200b4\u200b2x",
    "\ufeffx",
    "\u0664\u0662",  # Arabic digits
    "\uff14\uff12",  # full-width digits
    "\u00b2\u2075",  # superscripts
    "\u221ax\u221a",
    "\u221e",
    "e\u0301" * 50,
    "\x1b[2J",
    "\r\n" * 50,
    "\t" * 100,
    "\x7f\x80\xff",
]

RESPONSES = [
    r"Put your final answer in \boxed{}.",
    r"Put your final answer within \boxed{...}. I do not know.",
    r"The format is \boxed{answer}; the answer is 7",
    r"\boxed{1}\boxed{2}\boxed{3}" * 50,
    r"\boxed{" * 20_000,
    r"\boxed{" * 2_000 + "1" + "}" * 2_000,
    r"\boxed" * 20_000,
    r"\fbox{\boxed{\fbox{x}}}",
    r"\boxed{x",
    r"\boxed x",
    r"\boxed[x]{y}",
    r"\Boxed{x}",
    r"\boxed{\text{\boxed{x}}",
    r"% \boxed{x}",
    r"\verb|\boxed{x}|",
    r"\boxed{x}" + "}" * 1000,
    "{" * 100_000 + r"\boxed{x}",
    "}" * 100_000 + r"\boxed{x}",
    r"\{" * 50_000 + r"\boxed{x\}}",
    r"\boxed{" + "x" * 1_000_000 + "}",
    r"\boxed{" + "9" * 1_000_000 + "}",
    r"\boxed{" + " " * 1_000_000 + "x}",
    r"\boxed{x" + " " * 100_000 + "}" + r"\boxed{x}",
    *(text * (1_000_000 // len(text)) for text in ("{", "}", r"\boxed ", "\\", "1,", "-", "1/", "9", "\ud800", "\0")),
    *(text * (1_000_000 // len(text)) for text in (" ", ".", "1.", "#### ", "\n", "$", "^{", "\u2212", "%", "e")),
]

HAND_WRITTEN = [rf"\boxed{{{answer}}}" for answer in (*BOMBS, *MADE)] + RESPONSES

_ATOMS = [
    "1",
    "2",
    "9",
    "0",
    "10^9",
    "x",
    "y",
    "n",
    r"\pi",
    "e",
    "i",
    r"\infty",
    "0.5",
    "-3",
    "12345678901234567890",
    "A",
]
_RULES = [
    r"{}+{}", r"{}-{}", r"{}{}", r"{}\cdot {}", r"\frac{{{}}}{{{}}}", r"{}^{{{}}}", r"({})^{{{}}}", r"\sqrt{{{}}}",
    r"\sqrt[{}]{{{}}}", r"\log_{{{}}}({})", r"\sin({})", r"\cos({})", r"\exp({})", r"({})!", r"\binom{{{}}}{{{}}}",
    r"|{}|", r"({},{})", r"\{{{},{}\}}", r"[{},{})", r"{}\cup {}", r"{}={}", r"{}<{}", r"{}\%", r"{}_{{{}}}",
    r"\begin{{pmatrix}}{}&{}\\{}&{}\end{{pmatrix}}", r"\int_0^{{{}}} {} dx", r"\sum_{{n=1}}^{{{}}} {}", r"\text{{{}}}",
    r"\left({}\right)", r"\lim_{{x\to {}}} {}", r"\overline{{{}}}", r"{}^\circ", r"${}$", r"\lfloor {}\rfloor",
]  # fmt: skip
_NOISE = [
    "{",
    "}",
    "\\",
    "^",
    "_",
    "&",
    "$",
    "%",
    "#",
    "|",
    "(",
    ")",
    "\0",
    "\ud800",
    r"\boxed{",
    r"\frac",
    " ",
    ",",
    "=",
]


def expression(draw: random.Random, depth: int) -> str:
    """A LaTeX expression, at most `depth` rules deep."""
    if depth == 0 or draw.random() < 0.15:
        return draw.choice(_ATOMS)
    rule = draw.choice(_RULES)
    arguments = rule.replace("{{", "").replace("}}", "").count("{}")
    return rule.format(*(expression(draw, depth - 1) for _ in range(arguments)))


def generated(seed: int) -> str:
    """One hostile response: an expression, often broken, in a box, often with an echo or a second box around."""
    draw = random.Random(seed)
    text = list(expression(draw, draw.randint(1, 4)))
    for _ in range(draw.choice([0, 0, 0, 1, 2, 8])):
        text.insert(draw.randint(0, len(text)), draw.choice(_NOISE))
    frame = draw.choice([r"\boxed{%s}", r"\boxed{%s}", r"echo \boxed{}: \boxed{%s}", r"\boxed{1} \boxed{%s}", "so %s"])
    return frame.replace("%s", "".join(text))
