"""`tasker completion`: scripts that complete the words of a command line in bash, zsh and fish.

A script asks `tasker __complete` at each press of TAB, so that it needs no update with Tasker. The words go there in a
variable, each with an end of its own; see `cli.completing` for the lines that come back.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from tasker.cli.exits import Exit
from tasker.cli.terminal import show

_BASH = r"""# tasker in bash: eval "$(tasker completion bash)", in ~/.bashrc
_tasker() {
    local cur=${COMP_WORDS[COMP_CWORD]} asked='' line value begun='' files='' word
    [[ $cur == '=' ]] && cur=''
    for word in "${COMP_WORDS[@]:1:COMP_CWORD}"; do asked+="$word"$'\x1f'; done
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            $'\x1fbegin') begun=1 ;;
            $'\x1ffiles') files=1 ;;
            $'\x1f'*) ;;
            *)
                value=${line%%$'\t'*}
                if [[ $begun && $value == "$cur"* ]]; then printf -v value %q "$value"; COMPREPLY+=("$value"); fi ;;
        esac
    done < <(CYCLOPTS_COMPLETION_WORDS=$asked "$1" __complete 2>/dev/null)
    if [[ $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur")
    fi
}
complete -F _tasker tasker
"""
_ZSH = r"""#compdef tasker
# tasker in zsh: eval "$(tasker completion zsh)", in ~/.zshrc after compinit
_tasker() {
    local line value begun='' files=''
    local -a asked values told
    asked=("${(@Q)words[2,CURRENT]}")
    while IFS= read -r line; do
        case $line in
            $'\x1fbegin') begun=1 ;;
            $'\x1ffiles') files=1 ;;
            $'\x1fprefix'*) compset -P '*=' ;;
            $'\x1f'*) ;;
            *)
                if [[ -n $begun && -n $line ]]; then
                    value=${line%%$'\t'*}
                    values+=("$value")
                    if [[ $line == *$'\t'* ]]; then told+=("$value  -- ${line#*$'\t'}"); else told+=("$value"); fi
                fi ;;
        esac
    done < <(CYCLOPTS_COMPLETION_WORDS="${(pj:\x1f:)asked}"$'\x1f' ${(Q)words[1]} __complete 2>/dev/null)
    (( $#values )) && compadd -l -d told -a values
    [[ -n $files ]] && _files
    return 0
}
if [[ ${funcstack[1]} == _tasker ]]; then _tasker "$@"; else compdef _tasker tasker; fi
"""
_FISH = r"""# tasker in fish: tasker completion fish > ~/.config/fish/completions/tasker.fish
function __tasker_complete
    set -l typed (commandline -opc)
    set -l asked $typed[2..] (commandline -ct)
    set -lx CYCLOPTS_COMPLETION_WORDS (string join \x1f -- $asked)\x1f
    set -l begun
    set -l prefix
    for line in ($typed[1] __complete 2>/dev/null)
        switch $line
            case \x1fbegin
                set begun 1
            case \x1ffiles
                __fish_complete_path (commandline -ct)
            case \x1fprefix\*
                set prefix (string split -m 1 \t -- $line)[2]
            case \x1f\*
            case '?*'
                test -n "$begun"; and printf '%s\n' "$prefix$line"
        end
    end
end
complete -c tasker -f -a '(__tasker_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Your shell.")], /) -> int:
    """Print a script that completes commands, options, types, queues and other names at TAB.

    bash: eval "$(tasker completion bash)" in ~/.bashrc.
    zsh: eval "$(tasker completion zsh)" in ~/.zshrc, after compinit.
    fish: tasker completion fish > ~/.config/fish/completions/tasker.fish
    """
    show(_SCRIPTS[shell].rstrip("\n"))
    return Exit.OK
