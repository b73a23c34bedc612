#compdef batch_infer
# Completion of batch_infer in zsh, after compinit: eval "$(batch_infer -completion zsh)"
_batch_infer() {
    local line
    local -a lines values shown keys
    lines=("${(@f)$(${words[1]} -complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    [[ ${words[CURRENT]} == -*=* ]] && compset -P 1 '*='
    for line in $lines; do
        case $line in
            :files) _files ;;
            :folders) _files -/ ;;
            *=) keys+=("$line") ;; # its value comes next, without a space
            ?*)
                values+=("${line%%$'\t'*}")
                shown+=("${line//$'\t'/  -- }")
                ;;
        esac
    done
    (( $#keys )) && compadd -S '' -a -- keys
    (( $#values )) && compadd -l -d shown -a -- values
}
if [[ ${funcstack[1]} == _batch_infer ]]; then
    _batch_infer "$@"
else
    compdef _batch_infer batch_infer
fi
